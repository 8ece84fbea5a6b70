import type { FastifyBaseLogger } from 'fastify'
import type { ResolvedOptions } from '../config/options.ts'
import { OutcomeResolver } from '../exchange/outcome-resolver.ts'
import { TraceContext } from '../exchange/trace-context.ts'
import type { PoolerWatch } from '../pgbouncer/watch.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { SessionHost } from '../session/managed-session.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import type { OpenWork } from './open-work.ts'
import type { Replicas } from './replicas/replicas.ts'

export interface SessionHostParts {
  readonly counters: Counters
  readonly engineIdentity: EngineIdentity
  readonly work: OpenWork
  readonly watch: PoolerWatch
  /** Null without replicas. */
  readonly replicas: Replicas | null
}

/** What the sessions of an engine share. A sandbox replaces its pool, and hides its replicas. */
export type EngineSessionHost = SessionHost & { pool: Pool, replicas: Replicas | null }

/** What the sessions of an engine share. It names the pool that they use. */
export function buildSessionHost (
  pool: Pool, options: ResolvedOptions, parts: SessionHostParts, log: FastifyBaseLogger
): EngineSessionHost {
  const { resolveCommits, traceContext, client, pool: { acquireTimeout } } = options
  const { counters, engineIdentity, work, watch, replicas } = parts
  const host: EngineSessionHost & { outcomes: OutcomeResolver | null } = {
    pool,
    replicas,
    notBefore: null,
    counters,
    engineIdentity,
    traceContext: traceContext === null
      ? null
      : new TraceContext(engineIdentity.db, traceContext.setting,
        traceContext.inApplicationName ? client.application_name ?? '' : null),
    outcomes: null,
    pending: work.pending,
    vet: (call) => watch.vet(call),
    report: (error, message) => log.error({ err: error }, message),
    waitsLong: (text, label) => log.warn({ statement: text.slice(0, 1000), ...(label && { route: label.route }) },
      'a statement has waited for seconds until a transaction(fn) of its session ends: inside fn, use the session ' +
      'that fn is given, and await nothing that waits outside of it'),
    ended: (session) => work.ended(session)
  }
  if (resolveCommits) host.outcomes = new OutcomeResolver(host, acquireTimeout, log)
  return host
}
