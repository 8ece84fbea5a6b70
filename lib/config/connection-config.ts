import { readConnectionUrl } from './connection-url.ts'
import { isPort, isText, optionsError } from './option-rules.ts'
import { ownFields } from '../own-fields.ts'
import { applicationName } from '../postgres/application-name.ts'
import { type ClientConfig, type GivenConfig, withHosts } from './host-list.ts'
import { withCheckedPassword } from './checked-password.ts'
import { startupOf } from '../postgres/target.ts'

/**
 * The configuration of each pg.Client. For each field, an option takes precedence over the URL, and both take
 * precedence over the environment: pg reads missing fields from PGHOST, PGPASSWORD, PGSSLMODE and so on. The URL
 * itself is not passed to pg, where it would override all other fields.
 *
 * @param options the options of the connection, without undefined ones
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function connectionConfig (
  connectionString: string | undefined, name: string | undefined, options: GivenConfig
): ClientConfig {
  const fields = connectionString === undefined ? {} : readConnectionUrl(connectionString)
  const { fallback_application_name: fallback, ...url } = fields
  // It would start TLS with the first byte although TLS is off.
  if (options.ssl === false) delete url.sslnegotiation
  const config = withCheckedPassword(withHosts(ownFields<GivenConfig>(
    {
      keepAlive: true,
      // The system's default of two hours is longer than any request, and longer than firewalls keep an idle
      // connection.
      keepAliveInitialDelayMillis: 10000
    },
    url as GivenConfig,
    options,
    // For a client without a name, PgBouncer shows the name of the previous client.
    { application_name: name ?? url.application_name ?? applicationName(fallback) }
  )))
  checkStartup(config)
  return config
}

/** Checks what pg will send, including values from the environment. */
function checkStartup (config: ClientConfig): void {
  const { port, ...texts } = startupOf(config)
  const wrong = isPort(port)
  if (wrong !== null) throw optionsError('port', wrong, port)
  for (const [field, value] of Object.entries(texts)) {
    const expected = typeof value === 'string' && value !== '' ? isText(value) : null
    if (expected !== null) throw optionsError(field, expected, value)
  }
}
