import type { Target } from '../postgres/target.ts'
import type { ConnectionSourceHost } from './sources/connection-source.ts'

/** What the pool needs from the engine. */
export interface PoolHost extends ConnectionSourceHost {
  readonly target: Target
  /** Whether the server will accept a second attempt after this refusal. */
  retryConnect (error: unknown): boolean
}

export interface PoolStats {
  /** Connections that exist: idle, in use or being opened. */
  readonly open: number
  readonly idle: number
  readonly inUse: number
  readonly waiting: number
}
