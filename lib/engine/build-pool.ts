import type { FastifyBaseLogger } from 'fastify'
import type { ResolvedOptions } from '../config/options.ts'
import type { PoolerWatch } from '../pgbouncer/watch.ts'
import type { Counters } from '../pool/counters.ts'
import { LeakDetector } from '../pool/leak-detector.ts'
import { Pool } from '../pool/pool.ts'
import type { PoolHost } from '../pool/pool-host.ts'
import { SessionStateReset } from '../pool/session-state-reset.ts'
import { KeepAliveSource } from '../pool/sources/keep-alive-source.ts'
import { SingleUseSource } from '../pool/sources/single-use-source.ts'
import { hostsOf } from '../postgres/hosts.ts'
import type { Target } from '../postgres/target.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import { noticeObserver } from './notices.ts'

export interface PoolParts {
  readonly target: Target
  readonly counters: Counters
  readonly watch: PoolerWatch
  readonly sessionState: SessionStateReset | null
  /** Settings for the startup packet of the next connection. */
  baseline (): Record<string, string>
  readonly engineIdentity: EngineIdentity
}

/** Creates the pool and its source of connections. */
export function buildPool (options: ResolvedOptions, parts: PoolParts, log: FastifyBaseLogger): Pool {
  const { client, pool: limits, strategy, onNotice } = options
  const { watch } = parts
  const keepsConnections = strategy !== 'null'
  const host: PoolHost = {
    client,
    hosts: hostsOf(client),
    target: parts.target,
    counters: parts.counters,
    engineIdentity: parts.engineIdentity,
    sessionState: parts.sessionState,
    baseline: parts.baseline,
    prepared: () => watch.prepared(),
    pooled: () => watch.pooler.kind !== 'none',
    connected: (connection, parameters) => watch.inspect(connection, parameters, keepsConnections),
    noticed: noticeObserver(log, onNotice),
    retryConnect: (error) => watch.appeared(error)
  }
  if (host.hosts !== null) {
    host.hosts.moved = (name, before) => log.warn({ host: name, before }, 'another host is used from now on')
  }
  const source = keepsConnections ? new KeepAliveSource(host, limits) : new SingleUseSource(host, limits)
  const { leakDetectionThreshold } = limits
  const observers = leakDetectionThreshold === 0 ? [] : [leakDetector(leakDetectionThreshold, parts.counters, log)]
  return new Pool(source, host, limits, observers)
}

/** @returns null if session state is kept, or if no connection serves a second session */
export function buildSessionStateReset ({ sessionState, strategy }: ResolvedOptions): SessionStateReset | null {
  return sessionState !== 'reset' || strategy === 'null' ? null : new SessionStateReset()
}

function leakDetector (threshold: number, counters: Counters, log: FastifyBaseLogger): LeakDetector {
  return new LeakDetector(
    threshold,
    (report) => {
      counters.leaks++
      log.warn(report, 'a connection is held longer than leakDetectionThreshold')
    },
    (report) => log.warn(report, 'a connection that was held longer than leakDetectionThreshold has come back')
  )
}
