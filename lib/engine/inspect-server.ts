import type pg from 'pg'
import type { ResolvedOptions } from '../config/options.ts'
import { pgScopeError } from '../errors.ts'
import { detectPooler } from '../pgbouncer/detect.ts'
import type { PoolerWatch } from '../pgbouncer/watch.ts'
import type { SessionStateReset } from '../pool/session-state-reset.ts'
import { nameOf, type Target } from '../postgres/target.ts'

/**
 * Connects once, so that a wrong address or password fails the boot, detects a pooler, and checks the options that
 * need a version of PostgreSQL.
 *
 * @param sessionState null if connections are not reset between sessions
 * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED, FST_PG_SCOPE_OPTIONS
 */
export async function inspectServer (
  options: ResolvedOptions, target: Target, watch: PoolerWatch, sessionState: SessionStateReset | null
): Promise<void> {
  const version = await inspect(options.client, options.pool.acquireTimeout, { target, watch, sessionState })
  const require = (option: string, least: number): void => {
    if (version >= least * 10000) return
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `\`${option}\` requires PostgreSQL ${least} or later, ` +
      `and ${nameOf(target)} runs ${Math.floor(version / 10000)}: remove the option.`)
  }
  if ((options.defaults.transactionTimeout ?? 0) > 0) require('transactionTimeout', 17)
  if (options.resolveCommits) require('resolveCommits', 13)
}

/** One server, and what learns about it. */
interface Inspected {
  readonly target: Target
  readonly watch: PoolerWatch
  /** Null if connections are not reset between sessions. */
  readonly sessionState: SessionStateReset | null
}

/**
 * Connects once, and detects a pooler.
 *
 * @param timeout milliseconds
 * @returns server_version_num: 170004 is 17.4
 * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED
 */
export async function inspect (
  config: pg.ClientConfig, timeout: number, { target, watch, sessionState }: Inspected
): Promise<number> {
  const found = await detectPooler(config, target, timeout, async (client, pooler) => {
    watch.found(pooler)
    if (!watch.poolsTransactions) await sessionState?.learn(client)
  })
  watch.serverVersion = found.serverVersion
  watch.searches(found.oneSchema)
  return found.version
}
