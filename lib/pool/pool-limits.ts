/** The checked options of `pool`. */
export interface PoolLimits {
  /** Connections in use at the same time. */
  readonly max: number
  /** Connections that are kept even when idle. */
  readonly min: number
  /** Milliseconds. */
  readonly acquireTimeout: number
  /** Sessions that may wait at the same time. */
  readonly maxWaiting: number
  /** Milliseconds. */
  readonly idleTimeout: number
  /** Milliseconds, 0 for no limit. */
  readonly maxLifetime: number
  /** Sessions that a connection serves before it is replaced. */
  readonly maxUses: number
  readonly prePing: boolean
  /** Milliseconds after which a lease that is still held is reported; 0 disables reports. */
  readonly leakDetectionThreshold: number
  /** Why `max` is what it is, if the user has not set it: a sentence for errors. */
  readonly note?: string
}
