import type { FastifyBaseLogger } from 'fastify'
import type { ResolvedOptions } from '../config/options.ts'
import { OutcomeResolver } from '../exchange/outcome-resolver.ts'
import type { PoolerWatch } from '../pgbouncer/watch.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { SessionHost } from '../session/managed-session.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import type { OpenWork } from './open-work.ts'

export interface SessionHostParts {
  readonly counters: Counters
  readonly engineIdentity: EngineIdentity
  readonly work: OpenWork
  readonly watch: PoolerWatch
}

/** What the sessions of an engine share. It names the pool that they use. */
export function buildSessionHost (
  pool: Pool, { resolveCommits, pool: { acquireTimeout } }: ResolvedOptions, parts: SessionHostParts,
  log: FastifyBaseLogger
): SessionHost & { pool: Pool } {
  const { counters, engineIdentity, work, watch } = parts
  const host: SessionHost & { pool: Pool, outcomes: OutcomeResolver | null } = {
    pool,
    counters,
    engineIdentity,
    outcomes: null,
    pending: work.pending,
    vet: (text) => watch.vet(text),
    report: (error, message) => log.error({ err: error }, message),
    waitsLong: (text, label) => log.warn({ statement: text.slice(0, 1000), ...(label && { route: label }) },
      'a statement has waited for seconds until a transaction(fn) of its session ends: inside fn, use the session ' +
      'that fn is given, and await nothing that waits outside of it'),
    ended: (session) => work.ended(session)
  }
  if (resolveCommits) host.outcomes = new OutcomeResolver(host, acquireTimeout, log)
  return host
}
