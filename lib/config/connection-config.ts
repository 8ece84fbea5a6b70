import type pg from 'pg'
import { readConnectionUrl } from './connection-url.ts'
import { isPort, isText, optionsError } from './option-rules.ts'
import { ownFields } from '../own-fields.ts'
import { applicationName } from '../postgres/application-name.ts'
import { withCheckedPassword } from './checked-password.ts'
import { startupOf } from '../postgres/target.ts'

/**
 * What each pg.Client is made of. An option wins over the URL, field by field, and both win over the environment: pg completes what is
 * still open from PGHOST, PGPASSWORD, PGSSLMODE and so on. pg is not shown the URL, for in pg a URL wins over everything beside it.
 *
 * @param options pg's fields among the options, without those that are undefined
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function connectionConfig (connectionString: string | undefined, name: string | undefined, options: pg.ClientConfig): pg.ClientConfig {
  const { fallback_application_name: fallback, ...url } = connectionString === undefined ? {} : readConnectionUrl(connectionString)
  // It asks for TLS from the first byte on, where there is to be none.
  if (options.ssl === false) delete url.sslnegotiation
  const config = withCheckedPassword(ownFields<pg.ClientConfig>(
    {
      keepAlive: true,
      // The system's two hours are longer than any request, and than what firewalls remember.
      keepAliveInitialDelayMillis: 10000
    },
    url as pg.ClientConfig,
    options,
    // PgBouncer shows the previous client's name for one that sends none.
    { application_name: name ?? url.application_name ?? applicationName(fallback) }
  ))
  checkStartup(config)
  return config
}

/** What pg would send, the environment's part of it included. */
function checkStartup (config: pg.ClientConfig): void {
  const { port, ...texts } = startupOf(config)
  const wrong = isPort(port)
  if (wrong !== null) throw optionsError('port', wrong, port)
  for (const [field, value] of Object.entries(texts)) {
    const expected = typeof value === 'string' && value !== '' ? isText(value) : null
    if (expected !== null) throw optionsError(field, expected, value)
  }
}
