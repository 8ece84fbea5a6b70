import { failureKind } from '../postgres/sqlstate.ts'
import { connectError } from '../postgres/target.ts'
import type { Connection } from './connection.ts'
import { refuse, traceAbandoned, traceAcquire, traceGrant } from './acquire-trace.ts'
import { Arrivals } from './arrivals.ts'
import { DeadlockDetector } from './deadlock-detector.ts'
import { TimeoutDiagnosis } from './timeout-diagnosis.ts'
import { type CommitLatency, HandOver, type PendingCommit } from './hand-over.ts'
import { Lease, type LeaseKeeper } from './lease.ts'
import { Admission } from './admission.ts'
import { answersPing } from './pre-ping.ts'
import { retriesLogin, takeFrom } from './login-retry.ts'
import { closedError, deadlockError } from './pool-errors.ts'
import type { PoolHost, PoolStats } from './pool-host.ts'
import type { PoolLimits } from './pool-limits.ts'
import type { PoolObserver } from './pool-observer.ts'
import type { ConnectionSource } from './sources/connection-source.ts'
import { type AcquireRequest, WaitQueue } from './wait-queue.ts'

/**
 * Grants leases: at most `max` connections in use, and a bounded queue of waiters, first in, first out.
 *
 *     acquire() ──► WaitQueue ──► grant() ──► Lease ──► release() ──► reset ──► next waiter, or back to the source
 *                      ▲             ▲
 *                 Admission      a connection: from the source, returned, or with a pending COMMIT (HandOver)
 *
 * It owns the queue and the counts of connections. A ConnectionSource opens, keeps and closes them. A waiter leaves
 * the queue when it is granted, refused or timed out, when it gives up, or when it resolves a deadlock. Sessions,
 * single statements and lease(fn) call acquire() and giveUp(); transactions call commitSent() and commitAnswered();
 * the engine calls the rest.
 */
export class Pool {
  readonly #source: ConnectionSource
  readonly #host: PoolHost
  readonly #limits: PoolLimits
  readonly #waiting: WaitQueue
  readonly #deadlocks: DeadlockDetector
  readonly #admission: Admission
  readonly #diagnosis: TimeoutDiagnosis
  readonly #observers: readonly PoolObserver[]
  readonly #handOver = new HandOver()
  readonly #keeper: LeaseKeeper
  readonly #arrivals = new Arrivals()
  /** Connections in use. */
  #leased = 0
  #closing: Promise<void> | null = null

  /** @param observers besides those that the pool itself needs */
  constructor (
    source: ConnectionSource, host: PoolHost, limits: PoolLimits, observers: readonly PoolObserver[]
  ) {
    this.#source = source
    this.#host = host
    this.#limits = limits
    this.#waiting = new WaitQueue(limits.acquireTimeout, (waiter) => this.#timedOut(waiter))
    this.#deadlocks = new DeadlockDetector(limits.max, this.#waiting, (waiter) => this.#deadlocked(waiter))
    this.#admission = new Admission(limits)
    this.#diagnosis = new TimeoutDiagnosis(source.keepsConnections, host.target)
    this.#observers = [this.#deadlocks, this.#diagnosis, ...observers]
    this.#keeper = {
      engineIdentity: host.engineIdentity,
      counters: host.counters,
      returned: (lease, connection, keep) => {
        this.#observeReturn(lease)
        connection.reused = true
        if (keep && source.keepsConnections && this.#closing === null) this.#reset(connection)
        else this.#put(connection, keep)
      },
      handedOver: (lease) => {
        this.#observeReturn(lease)
        host.counters.handedOver++
      }
    }
    source.whenLeft(() => this.#fetch())
  }

  get kind (): ConnectionSource['kind'] {
    return this.#source.kind
  }

  acquire (waiter: AcquireRequest): void {
    traceAcquire(waiter, this.#host.engineIdentity)
    if (this.#closing !== null) return refuse(waiter, closedError())
    const refusal = this.#admission.refusal(this.#waiting.length, this.#leased, this.#taken)
    if (refusal !== null) {
      this.#host.counters.refused++
      return refuse(waiter, refusal)
    }
    this.#waiting.push(waiter)
    for (const observer of this.#observers) observer.requested(waiter)
    this.#fetch()
    this.#share()
  }

  giveUp (waiter: AcquireRequest): boolean {
    if (!this.#abandon(waiter)) return false
    traceAbandoned(waiter)
    return true
  }

  #abandon (waiter: AcquireRequest): boolean {
    const waited = this.#leave(waiter)
    if (waited) this.#arrivals.abandon(this.#waiting.length)
    return waited
  }

  #leave (waiter: AcquireRequest): boolean {
    if (!this.#waiting.remove(waiter)) return false
    for (const observer of this.#observers) observer.left(waiter)
    return true
  }

  commitSent (lease: Lease, latency: CommitLatency): PendingCommit {
    const commit = this.#handOver.commitSent(lease, latency)
    this.#share()
    return commit
  }

  commitAnswered (commit: PendingCommit): void {
    this.#handOver.commitAnswered(commit)
  }

  recordRoundTrip (duration: number): void {
    this.#handOver.recordRoundTrip(duration)
  }

  stats (): PoolStats {
    return { open: this.#source.open, idle: this.#source.idle, inUse: this.#leased, waiting: this.#waiting.length }
  }

  /** The server is known to be unusable: nothing waits for it. */
  refuseWaiting (error: Error): void {
    for (let waiter = this.#next(); waiter !== null; waiter = this.#next()) refuse(waiter, error)
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
    const closed: Promise<void>[] = []
    while (this.#source.idle > this.#arrivals.idle) {
      closed.push(new Promise((resolve) => this.#take((connection) => {
        if (connection === null || connection.lost !== null) resolve()
        else connection.client.once('end', resolve)
      })))
    }
    await Promise.all(closed)
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    this.#waiting.stop()
    this.#host.hosts?.stop()
    this.refuseWaiting(closedError())
    await this.#source.end()
  }

  /** Connections in use, arriving or being closed: the server counts all of them. */
  get #taken (): number {
    return this.#leased + this.#arrivals.count + this.#source.leaving
  }

  /** Takes one connection for each waiter from the source, within `max`. */
  #fetch (): void {
    if (this.#closing !== null) return
    const { hosts } = this.#host
    while (this.#arrivals.expected < this.#waiting.length && this.#taken < this.#limits.max) {
      if (hosts !== null && this.#source.idle <= this.#arrivals.idle && !hosts.mayTry(() => this.#fetch())) return
      this.#take()
    }
  }

  /** @param arrived called with the connection, or null, before it is granted */
  #take (arrived?: (connection: Connection | null) => void): void {
    const began = performance.now()
    const isIdle = this.#source.idle > this.#arrivals.idle
    this.#arrivals.add(isIdle)
    takeFrom(this.#source, (error, connection) => {
      this.#arrivals.remove(isIdle)
      arrived?.(connection)
      if (connection === null) return this.#refused(error, began)
      this.#leased++
      this.#hand(connection, this.#limits.prePing && connection.reused)
      if (this.#host.hosts !== null) this.#fetch() // a host fits now
    })
  }

  /** Gives a connection to the first waiter, or back to the source. */
  #hand (connection: Connection, ping = false): void {
    const waiter = this.#first
    const unfit = connection.lost !== null || connection.expired || (waiter?.requireNew === true && connection.reused)
    if (waiter === null || unfit) return this.#put(connection, !unfit)
    if (!ping) return this.#grant(connection)
    answersPing(connection, this.#limits.acquireTimeout)
      .then((isAlive) => isAlive ? this.#hand(connection) : this.#put(connection, false))
  }

  /** Clears the state that the session left on the connection, which counts as in use meanwhile. */
  #reset (connection: Connection): void {
    if (!connection.mustBeReset) return this.#hand(connection)
    connection.reset().then((done) => {
      if (done && this.#closing === null) this.#hand(connection)
      else this.#put(connection, done)
    })
  }

  #grant (connection: Connection): void {
    const waiter = this.#next()
    if (waiter === null) return this.#put(connection, true)
    this.#host.counters.acquired++
    connection.uses++
    // A connection that was just opened shows how long opening takes, not how long a session takes.
    if (connection.reused || !this.#source.keepsConnections) this.#admission.served(this.#waiting.length)
    const lease = new Lease(connection, waiter.owner, waiter.label, this.#keeper)
    for (const observer of this.#observers) observer.granted(lease, waiter)
    traceGrant(waiter, connection)
    waiter.granted(lease)
  }

  /** Hands connections with a pending COMMIT to the waiters for which no idle connection is arriving. */
  #share (): void {
    // A connection that is not kept ends with its session, and with the state that the session left on it.
    if (!this.#source.keepsConnections) return
    while (this.#waiting.length > this.#arrivals.idle) {
      const waiter = this.#first!
      // Work that already holds a connection may hold a lock that the COMMIT waits for, because of a deferred
      // foreign key.
      if (waiter.requireNew || waiter.exclusive || this.#deadlocks.mayHold(waiter)) return
      const lease = this.#handOver.next()
      if (lease === null) return
      const connection = lease.handOver()
      connection.reused = true
      this.#grant(connection)
    }
  }

  #observeReturn (lease: Lease): void {
    for (const observer of this.#observers) observer.returned(lease)
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

  /** Removes and returns the first waiter. */
  #next (): AcquireRequest | null {
    const waiter = this.#first
    if (waiter !== null) this.#leave(waiter)
    return waiter
  }

  /**
   * @param began when the refused connection was requested. Later waiters are not rejected with it, as the server may
   *   have recovered.
   */
  #refused (error: unknown, began: number): void {
    for (const observer of this.#observers) observer.connectionRefused(error)
    if (this.#host.retryConnect(error)) return this.#fetch()
    if (retriesLogin(error, this.#waiting.since, this.#host.hosts, () => this.#fetch())) return
    const full = failureKind(error) === 'too-many-connections'
    // Waiters can use the next connection that is returned, if this pool has any.
    if (full && this.#taken > 0) return
    // Rejects the waiters that were left in the queue until the last connection was refused, and all waiters if none of
    // several hosts can be reached and no connection is in use.
    let count = this.#host.hosts !== null && this.#taken === 0 ? Infinity : full ? this.#limits.max : 1
    while (count-- > 0 && this.#waiting.since <= began) refuse(this.#next(), connectError(error, this.#host.target))
    this.#fetch()
  }

  /** Called with a waiter that has left the queue. */
  #timedOut (waiter: AcquireRequest): void {
    for (const observer of this.#observers) observer.left(waiter)
    this.#host.counters.timedOut++
    refuse(waiter, this.#diagnosis.timedOut(this.#limits, this.#leased, this.#waiting.length))
  }

  #deadlocked (waiter: AcquireRequest): void {
    if (!this.#abandon(waiter)) return
    this.#host.counters.refused++
    this.#host.counters.deadlocks++
    refuse(waiter, deadlockError(this.#limits))
  }
}
