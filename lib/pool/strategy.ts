import type pg from 'pg'
import type { Notice } from '../../types/options.ts'
import type { Told } from '../postgres/pooler.ts'
import type { Target } from '../postgres/target.ts'
import type { Holder, Within } from './holder.ts'
import type { Connection, ConnectionHost } from './connection.ts'
import type { CommitPace, Offer } from './hand-over.ts'
import type { Lease } from './lease.ts'
import type { Place } from './wait-queue.ts'

export type StrategyKind = 'queue' | 'null'

/** Somebody who wants a connection. Told exactly once: granted, or refused. */
export interface Waiter {
  /** Wants a connection that nobody has used, because a kept one was found dead. */
  readonly fresh: boolean
  /** Wants a connection that owes nobody an answer. */
  readonly alone: boolean
  /** Who will hold it. */
  readonly holder: Holder
  /** The work that the wait happens in, which cannot go on meanwhile if it awaits it. */
  readonly within: Within | null
  /** Nothing awaits its promise so far, so that the work around it goes on. */
  readonly unawaited?: boolean
  /** Method and route, for reports. */
  readonly label: string | undefined
  /** The queue's own. */
  queued: Place | null
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

/** Where sessions get their connections. One suite of cases runs against every strategy. */
export interface Strategy {
  readonly kind: StrategyKind
  /** First come, first served. */
  acquire (waiter: Waiter): void
  /** Takes a waiter out of the queue; false where it has been told already. */
  giveUp (waiter: Waiter): boolean
  /** The lease's session has written COMMIT, behind which others may write; answered() says that its answer has come. */
  offer (lease: Lease, pace: CommitPace): Offer
  answered (offer: Offer): void
  /** A first batch was answered. @param duration milliseconds since it was written */
  took (duration: number): void
  stats (): StrategyStats
  /** Opens what is to be kept even when idle. */
  warm (): Promise<void>
  /** Replaces all connections: idle ones at once, others when they come back. Resolves when the idle ones are gone. */
  reset (): Promise<void>
  /** Refuses all who wait, ends every connection, and does not wait for a server that does not answer. */
  close (): Promise<void>
}

/** Where a pool gets its connections, and where they go: what the strategies do differently. */
export interface Source {
  readonly kind: StrategyKind
  /** Whether a connection that comes back clean may serve somebody else. */
  readonly keeps: boolean
  readonly open: number
  readonly idle: number
  /** Connections on their way out, which the server still counts. */
  readonly leaving: number
  /** Calls back once, with a connection that is kept or new. The pool never asks for more than `max` at a time. */
  take (done: (error: unknown, connection: Connection | null) => void): void
  /** Calls back each time that one of those on their way out has gone. */
  whenLeft (callback: () => void): void
  /** Takes a connection back: to keep it, or to end it. */
  put (connection: Connection, keep: boolean): void
  /** No connection that is open or being opened serves a further session. */
  outdate (): void
  warm (): Promise<void>
  end (): Promise<void>
}

/** What a source needs of the engine. */
export interface SourceHost extends ConnectionHost {
  readonly client: pg.ClientConfig
  /** Settings for the startup packet of the next connection. */
  baseline (): Record<string, string>
  /** Told of each connection before anybody uses it. */
  connected (connection: Connection, told: Told): void
  /** The server said something that is no answer: NOTICE, WARNING. @param label method and route, where it came with a request's statement */
  noticed (notice: Notice, label: string | undefined): void
  readonly counters: Counters
}

/** What a pool needs of the engine. */
export interface PoolHost extends SourceHost {
  readonly target: Target
  /** Whether a connection that was refused will be taken at a second try. */
  retryConnect (error: unknown): boolean
}

export type Counters = ReturnType<typeof newCounters>

export function newCounters (): Record<'opened' | 'destroyed' | 'acquired' | 'handedOver' | 'timedOut' | 'refused' | 'resent' | 'canceled' | 'committed' | 'rolledBack', number> {
  return { opened: 0, destroyed: 0, acquired: 0, handedOver: 0, timedOut: 0, refused: 0, resent: 0, canceled: 0, committed: 0, rolledBack: 0 }
}
