import type pg from 'pg'
import type { Notice } from '../../../types/options.ts'
import type { Hosts } from '../../postgres/hosts.ts'
import type { ServerParameters } from '../../pgbouncer/detect.ts'
import type { EngineIdentity } from '../../../types/telemetry.ts'
import type { Connection, ConnectionHost } from '../connection.ts'
import type { Counters } from '../counters.ts'

/** The values of the option `pool.strategy`. */
export type StrategyKind = 'queue' | 'null'

/** Supplies the pool with connections and takes them back. The option `pool.strategy` selects one. */
export interface ConnectionSource {
  readonly kind: StrategyKind
  /** Whether a connection that comes back clean may serve another session. */
  readonly keepsConnections: boolean
  readonly open: number
  readonly idle: number
  /** Connections that are being closed, which the server still counts. */
  readonly leaving: number
  /** Calls back once, with a reused or a new connection. The pool never asks for more than `max` at a time. */
  take (done: (error: unknown, connection: Connection | null) => void): void
  /** Calls back each time one of the connections being closed is gone. */
  whenLeft (callback: () => void): void
  /** Takes a connection back: to keep it, or to close it. */
  put (connection: Connection, keep: boolean): void
  /** No connection that is open or being opened serves another session. */
  outdate (): void
  /** Opens the connections that are kept even when idle. */
  warm (): Promise<void>
  end (): Promise<void>
}

/** What a source needs from the engine. */
export interface ConnectionSourceHost extends ConnectionHost {
  readonly client: pg.ClientConfig
  /** Null: there is one host, which may be anything. */
  readonly hosts: Hosts | null
  /** Settings for the startup packet of the next connection. */
  baseline (): Record<string, string>
  /** Called with each new connection before a session uses it. */
  connected (connection: Connection, parameters: ServerParameters): void
  /**
   * The server sent a NOTICE, WARNING or similar message.
   *
   * @param route method and route of the request whose statement caused it, if any
   */
  noticed (notice: Notice, route: string | undefined): void
  readonly counters: Counters
  /** For telemetry. */
  readonly engineIdentity: EngineIdentity
}
