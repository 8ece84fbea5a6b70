import { failureKind, hasNoServer } from '../postgres/sqlstate.ts'
import { connectError, type Target } from '../postgres/target.ts'
import type { Connection } from './connection.ts'
import { DeadlockDetector } from './deadlock-detector.ts'
import { TimeoutDiagnosis } from './timeout-diagnosis.ts'
import { type CommitLatency, HandOver, type PendingCommit } from './hand-over.ts'
import { Lease, type LeaseKeeper } from './lease.ts'
import type { LeaseObserver } from './leak-detector.ts'
import { Admission } from './admission.ts'
import { closedError, deadlockError } from './pool-errors.ts'
import type { PoolLimits } from './pool-limits.ts'
import type { ConnectionSource, ConnectionSourceHost } from './sources/connection-source.ts'
import { type AcquireRequest, WaitQueue } from './wait-queue.ts'

/** What the pool needs from the engine. */
export interface PoolHost extends ConnectionSourceHost {
  readonly target: Target
  /** Whether a connection that was refused will be accepted at a second attempt. */
  retryConnect (error: unknown): boolean
}

export interface PoolStats {
  /** Connections that exist: idle, in use or being opened. */
  readonly open: number
  readonly idle: number
  readonly inUse: number
  readonly waiting: number
}

/** How long a kept connection may take to show a sign of life. Milliseconds. */
const signOfLife = 1000

/**
 * After a restart of PostgreSQL, PgBouncer refuses whoever comes first, and logs in only then: how long somebody
 * waits for that, and how long until the next try. Milliseconds; a little more than server_login_retry in
 * docs/pgbouncer.ini.
 */
const serverPatience = 1500
const serverPause = 100

/**
 * At most `max` connections in use, and a bounded queue of those who wait, first come first served. A connection
 * that comes back goes straight to the first who waits; where connections come from is the source's matter.
 */
export class Pool {
  readonly #source: ConnectionSource
  readonly #host: PoolHost
  readonly #limits: PoolLimits
  readonly #leaks: LeaseObserver
  readonly #waiting: WaitQueue
  readonly #deadlocks: DeadlockDetector
  readonly #admission: Admission
  readonly #diagnosis: TimeoutDiagnosis
  readonly #handOver = new HandOver()
  readonly #keeper: LeaseKeeper
  /** Connections asked of the source that have not come yet. */
  #arriving = 0
  /** How many of them are idle ones, which come at once. */
  #idle = 0
  /**
   * Those among them whose sessions have given up: nobody who comes later counts on one that the network may have
   * swallowed.
   */
  #abandoned = 0
  #leased = 0
  #closing: Promise<void> | null = null

  constructor (source: ConnectionSource, host: PoolHost, limits: PoolLimits, leaks: LeaseObserver) {
    this.#source = source
    this.#host = host
    this.#limits = limits
    this.#leaks = leaks
    this.#waiting = new WaitQueue(limits.acquireTimeout, (waiter) => this.#timedOut(waiter))
    this.#deadlocks = new DeadlockDetector(limits.max, this.#waiting, (waiter) => this.#deadlocked(waiter))
    this.#admission = new Admission(limits)
    this.#diagnosis = new TimeoutDiagnosis(source.keepsConnections, host.target)
    this.#keeper = {
      returned: (lease, connection, keep) => {
        this.#ended(lease)
        connection.reused = true
        if (keep && source.keepsConnections && this.#closing === null) this.#reset(connection)
        else this.#put(connection, keep)
      },
      handedOver: (lease) => {
        this.#ended(lease)
        host.counters.handedOver++
      }
    }
    source.whenLeft(() => this.#fetch())
  }

  get kind (): ConnectionSource['kind'] {
    return this.#source.kind
  }

  acquire (waiter: AcquireRequest): void {
    if (this.#closing !== null) return waiter.refused(closedError())
    const refusal = this.#admission.refusal(this.#waiting.length, this.#leased, this.#taken)
    if (refusal !== null) {
      this.#host.counters.refused++
      return waiter.refused(refusal)
    }
    this.#leaks.asked(waiter)
    this.#waiting.push(waiter)
    this.#deadlocks.waits(waiter)
    this.#fetch()
    this.#share()
  }

  giveUp (waiter: AcquireRequest): boolean {
    if (!this.#leave(waiter)) return false
    this.#abandoned = Math.max(this.#abandoned, this.#arriving - this.#waiting.length)
    return true
  }

  #leave (waiter: AcquireRequest): boolean {
    if (!this.#waiting.remove(waiter)) return false
    this.#deadlocks.left(waiter)
    return true
  }

  commitSent (lease: Lease, pace: CommitLatency): PendingCommit {
    const offer = this.#handOver.commitSent(lease, pace)
    this.#share()
    return offer
  }

  commitAnswered (offer: PendingCommit): void {
    this.#handOver.commitAnswered(offer)
  }

  recordRoundTrip (duration: number): void {
    this.#handOver.recordRoundTrip(duration)
  }

  stats (): PoolStats {
    return { open: this.#source.open, idle: this.#source.idle, inUse: this.#leased, waiting: this.#waiting.length }
  }

  async warm (): Promise<void> {
    try {
      await this.#source.warm()
    } catch (error) {
      throw connectError(error, this.#host.target)
    }
  }

  async reset (): Promise<void> {
    this.#source.outdate()
    const gone: Promise<void>[] = []
    while (this.#source.idle > this.#idle) {
      gone.push(new Promise((resolve) => this.#take((connection) => {
        if (connection === null || connection.lost !== null) resolve()
        else connection.client.once('end', resolve)
      })))
    }
    await Promise.all(gone)
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    this.#waiting.stop()
    for (let waiter = this.#next(); waiter !== null; waiter = this.#next()) waiter.refused(closedError())
    await this.#source.end()
  }

  /** Connections that are in use, on their way here or on their way out: the server counts them all. */
  get #taken (): number {
    return this.#leased + this.#arriving + this.#source.leaving
  }

  /** Asks the source for as many connections as there are sessions waiting, within `max`. */
  #fetch (): void {
    while (this.#arriving - this.#abandoned < this.#waiting.length && this.#taken < this.#limits.max && this.#closing === null) {
      this.#take()
    }
  }

  /** @param arrived called with what has come, before it is handed on */
  #take (arrived?: (connection: Connection | null) => void): void {
    const began = performance.now()
    const idle = this.#source.idle > this.#idle ? 1 : 0
    this.#arriving++
    this.#idle += idle
    this.#source.take((error, connection) => {
      this.#abandoned = Math.min(this.#abandoned, --this.#arriving)
      this.#idle -= idle
      arrived?.(connection)
      if (connection === null) return this.#refused(error, began)
      this.#leased++
      this.#hand(connection, this.#limits.prePing && connection.reused)
    })
  }

  /** Gives a connection to the first who waits, or back to the source. */
  #hand (connection: Connection, ping = false): void {
    const waiter = this.#first
    const unfit = connection.lost !== null || connection.expired || (waiter?.requireNew === true && connection.reused)
    if (waiter === null || unfit) return this.#put(connection, !unfit)
    if (ping) this.#ping(connection)
    else this.#grant(connection)
  }

  /**
   * Takes away what its session has left on it. Meanwhile it counts as in use, and nobody waits for it but the next
   * session.
   */
  #reset (connection: Connection): void {
    const reset = connection.leftovers?.any === true ? connection.leftovers.clear(connection) : null
    if (reset === null) return this.#hand(connection)
    reset.then((done) => {
      if (done && this.#closing === null) this.#hand(connection)
      else this.#put(connection, done)
    })
  }

  #ping (connection: Connection): void {
    // A network that swallows everything would keep the connection, and its place in the pool, for good.
    const timer = setTimeout(() => connection.destroy(), Math.min(signOfLife, this.#limits.acquireTimeout / 2))
    connection.client.query('').then(() => this.#hand(connection), () => this.#put(connection, false)).finally(() => clearTimeout(timer))
  }

  #grant (connection: Connection): void {
    const waiter = this.#next()
    if (waiter === null) return this.#put(connection, true)
    this.#host.counters.acquired++
    connection.uses++
    this.#diagnosis.granted()
    // One that was opened for the first who waits says how long that takes, and not how long a session does.
    if (connection.reused || !this.#source.keepsConnections) this.#admission.served(this.#waiting.length)
    const lease = new Lease(connection, waiter.owner, waiter.label, this.#keeper)
    this.#leaks.granted(lease, waiter)
    this.#deadlocks.granted(lease)
    waiter.granted(lease)
  }

  /** Those who wait, and for whom no idle connection is on its way, go behind COMMITs that are under way. */
  #share (): void {
    // A connection that is not kept ends with its session, whatever that has left on it.
    if (!this.#source.keepsConnections) return
    while (this.#waiting.length > this.#idle) {
      const waiter = this.#first!
      const { requireNew: fresh, exclusive: alone } = waiter
      // What holds a connection as well may hold what that COMMIT waits for: a lock, for a deferred foreign key.
      const lease = fresh || alone || this.#deadlocks.mayHold(waiter) ? null : this.#handOver.next()
      if (lease === null) return
      const connection = lease.handOver()
      connection.reused = true
      this.#grant(connection)
    }
  }

  #ended (lease: Lease): void {
    this.#deadlocks.returned(lease)
    this.#leaks.returned(lease)
  }

  #put (connection: Connection, keep: boolean): void {
    this.#leased--
    if (!keep) this.#host.counters.destroyed++
    this.#source.put(connection, keep)
    this.#fetch()
  }

  get #first (): AcquireRequest | null {
    return this.#deadlocks.prioritized ?? this.#waiting.peek()
  }

  /** The first waiter, who leaves the queue with this. */
  #next (): AcquireRequest | null {
    const waiter = this.#first
    if (waiter !== null) this.#leave(waiter)
    return waiter
  }

  /**
   * @param began when the connection that was refused was asked for: whoever came later is not told of it, for much
   *   may have changed
   */
  #refused (error: unknown, began: number): void {
    this.#diagnosis.refused(error)
    if (this.#host.retryConnect(error)) return this.#fetch()
    if (hasNoServer(error) && performance.now() - this.#waiting.since < serverPatience) {
      setTimeout(() => this.#fetch(), serverPause)
      return
    }
    const full = failureKind(error) === 'too-many-connections'
    // Where others of ours are at work or on their way, here or out, the next connection to come back will do.
    if (full && this.#taken > 0) return
    // Those who were passed over until the last of ours was refused are told with it.
    for (let count = full ? this.#limits.max : 1; count > 0; count--) {
      if (this.#waiting.since <= began) this.#next()?.refused(connectError(error, this.#host.target))
    }
    this.#fetch()
  }

  /** Called with a waiter who has left the queue already. */
  #timedOut (waiter: AcquireRequest): void {
    this.#deadlocks.left(waiter)
    this.#host.counters.timedOut++
    waiter.refused(this.#diagnosis.timedOut(this.#limits, this.#leased, this.#waiting.length))
  }

  #deadlocked (waiter: AcquireRequest): void {
    if (!this.giveUp(waiter)) return
    this.#host.counters.refused++
    waiter.refused(deadlockError(this.#limits.max))
  }
}
