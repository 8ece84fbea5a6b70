import type { Lease } from './lease.ts'

/** Somebody who wants a connection. Told exactly once: granted, or refused. */
export interface Waiter {
  /** Wants a connection that nobody has used, because a kept one was found dead. */
  readonly fresh: boolean
  granted (lease: Lease): void
  refused (error: Error): void
}

export interface StrategyStats {
  /** Connections that exist: idle, in use and being opened. */
  open: number
  idle: number
  inUse: number
  waiting: number
}

/** Where connections come from. One suite of cases runs against every strategy. */
export interface Strategy {
  readonly kind: 'queue'
  /** First come, first served. */
  acquire (waiter: Waiter): void
  /** Takes a waiter out of the queue; false where it has been told already. */
  giveUp (waiter: Waiter): boolean
  stats (): StrategyStats
  /** Opens what is to be kept even when idle. */
  warm (): Promise<void>
  /** Refuses all who wait, ends every connection, and does not wait for a server that does not answer. */
  close (): Promise<void>
}

export function newCounters (): Record<'opened' | 'destroyed' | 'acquired' | 'timedOut' | 'refused' | 'resent' | 'canceled' | 'committed' | 'rolledBack', number> {
  return { opened: 0, destroyed: 0, acquired: 0, timedOut: 0, refused: 0, resent: 0, canceled: 0, committed: 0, rolledBack: 0 }
}
