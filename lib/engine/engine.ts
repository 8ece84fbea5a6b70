import type { FastifyBaseLogger } from 'fastify'
import type { Engine, Pooler, RawClient, Stats } from '../../types/engine.ts'
import type { ScopeOptions } from '../../types/options.ts'
import type { OwnedSession, Session } from '../../types/session.ts'
import { noFunction, pgScopeError } from '../errors.ts'
import { optionsError } from '../config/option-rules.ts'
import type { ResolvedOptions } from '../config/options.ts'
import { scopeConfig, type SessionConfig } from '../config/session-config.ts'
import { noticeObserver } from './notices.ts'
import { ownFields } from '../own-fields.ts'
import { Pool, type PoolHost } from '../pool/pool.ts'
import type { Lease } from '../pool/lease.ts'
import { asWorkOf, beginRequest, countEngine, currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import { LeakDetector, noLeakDetection } from '../pool/leak-detector.ts'
import { SingleUseSource } from '../pool/sources/single-use-source.ts'
import { KeepAliveSource } from '../pool/sources/keep-alive-source.ts'
import { PoolerWatch } from '../pgbouncer/watch.ts'
import { SessionStateReset } from '../pool/session-state-reset.ts'
import { closedError } from '../pool/pool-errors.ts'
import { newCounters } from '../pool/counters.ts'
import type { ConnectionSource } from '../pool/sources/connection-source.ts'
import { detectPooler } from '../pgbouncer/detect.ts'
import { makeRaw } from '../postgres/raw-client.ts'
import { nameOf, type Target, targetOf } from '../postgres/target.ts'
import { AutocommitSession } from '../session/autocommit-session.ts'
import type { ManagedSession, SessionHost } from '../session/managed-session.ts'
import { whenOver } from '../one-listener.ts'
import { ObservedPromise } from '../exchange/observed-promise.ts'
import { ScopedSession } from '../session/scoped-session.ts'
import { rejected } from '../session/rejected.ts'
import type { Settings } from '../exchange/transaction-config.ts'
import { Shutdown } from './shutdown.ts'

/** One for each process: `app.db`. */
export class PgEngine implements Engine {
  readonly #options: ResolvedOptions
  readonly #target: Target
  readonly #config: SessionConfig
  readonly #log: FastifyBaseLogger
  readonly #counters = newCounters()
  readonly #watch: PoolerWatch
  /** null where what sessions leave on their connections stays. */
  readonly #sessionState: SessionStateReset | null
  readonly #pool: Pool
  readonly #host: SessionHost
  /** Statements of the engine itself. */
  readonly #own: AutocommitSession
  readonly #shutdown: Shutdown

  constructor (options: ResolvedOptions, log: FastifyBaseLogger) {
    this.#options = options
    this.#log = log
    this.#target = targetOf(options.client)
    this.#config = scopeConfig(options.defaults, {})
    const watch = new PoolerWatch(options, this.#target, this.#config.transaction.timeouts, log)
    this.#watch = watch
    // What stays on a server connection of a pooler in transaction mode is not this connection's.
    const resets = options.sessionState === 'reset' && options.strategy !== 'null'
    this.#sessionState = resets ? new SessionStateReset(() => !watch.poolsTransactions) : null
    const host: PoolHost = {
      client: options.client,
      baseline: () => watch.baseline(),
      prepared: () => watch.prepared(),
      pooled: () => watch.pooler.kind !== 'none',
      sessionState: this.#sessionState,
      connected: (connection, parameters) => watch.inspect(connection, parameters, source.keepsConnections),
      target: this.#target,
      counters: this.#counters,
      noticed: noticeObserver(log, options.onNotice),
      retryConnect: (error) => watch.appeared(error)
    }
    const source: ConnectionSource = options.strategy === 'null' ? new SingleUseSource(host, options.pool) : new KeepAliveSource(host, options.pool)
    const threshold = options.pool.leakDetectionThreshold
    this.#pool = new Pool(source, host, options.pool, threshold === 0
      ? noLeakDetection
      : new LeakDetector(threshold,
        (report) => log.warn(report, 'a connection is held longer than leakDetectionThreshold'),
        (report) => log.warn(report, 'a connection that was held longer than leakDetectionThreshold has come back')))
    this.#host = {
      pool: this.#pool,
      counters: this.#counters,
      pending: new Set(),
      vet: (text) => watch.vet(text),
      report: (error, message) => log.error({ err: error }, message),
      ended: (session) => {
        this.#shutdown.sessions.delete(session)
        // An async context may keep the session for as long as its socket lives: the request need not stay with it.
        session.onForcedClose = undefined
        this.#shutdown.changed()
      }
    }
    this.#own = new AutocommitSession(this.#host, this.#config.singleStatement, this.#config.transaction)
    this.#shutdown = new Shutdown(this.#host, this.#own, log, options.closeTimeout)
    countEngine(1)
  }

  /**
   * Connects once, so that a wrong address or password fails the boot, and finds out what stands in between.
   *
   * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED, FST_PG_SCOPE_OPTIONS
   */
  async start (): Promise<void> {
    if (!this.#options.startupCheck) return
    const { client, pool: { acquireTimeout } } = this.#options
    const { pooler, version, serverVersion, oneSchema } = await detectPooler(client, this.#target, acquireTimeout, async (client, pooler) => {
      this.#watch.found(pooler)
      await this.#sessionState?.learn(client)
    })
    if (this.#config.transaction.timeouts.transaction_timeout !== undefined && version < 170000) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', `transactionTimeout: needs PostgreSQL 17, and ${nameOf(this.#target)} runs ${Math.floor(version / 10000)}.`)
    }
    this.#watch.found(pooler)
    this.#watch.serverVersion = serverVersion
    this.#watch.searches(oneSchema)
    try {
      await this.#pool.warm()
    } catch (error) {
      // The app will not boot, so that nobody else closes those that were opened.
      await this.#pool.close()
      throw error
    }
  }

  get pooler (): Pooler {
    return this.#watch.pooler
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    if (this.#shutdown.closing) return rejected(closedError())
    return this.#own.query(text, values, callback)
  }

  scope<T> (fn: (session: Session) => Promise<T> | T, options: ScopeOptions = {}): Promise<T> {
    if (currentWork() === null) return this.#scope(fn, options)
    // The work around it can go on, unless it awaits this.
    const promise: ObservedPromise<T> = new ObservedPromise((resolve) => resolve(this.#scope(fn, options, () => !promise.observed)))
    return promise
  }

  async #scope<T> (fn: (session: Session) => Promise<T> | T, options: ScopeOptions, unawaited?: () => boolean): Promise<T> {
    if (typeof fn !== 'function') throw noFunction('scope', fn)
    const session = this.session(options) as ManagedSession
    session.endIsAwaited = true
    let result: T
    try {
      result = await asWorkOf(session, () => fn(session), unawaited)
    } catch (error) {
      await session.end('rollback').catch(() => {})
      throw error
    }
    await session.end('commit')
    return result
  }

  session (options: ScopeOptions = {}): OwnedSession {
    const config = Object.keys(options).length === 0 ? this.#config : scopeConfig(this.#options.defaults, options)
    const session = this.open(config)
    const { signal } = ownFields(options)
    if (signal !== undefined) {
      const abort = (): void => { session.end('rollback', pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of this session was aborted: its running statement is cancelled, and what is not committed is rolled back.', signal.reason)).catch(() => {}) }
      if (signal.aborted) abort()
      else {
        const forget = whenOver(signal, abort)
        session.signal.addEventListener('abort', forget, { once: true })
      }
    }
    return session
  }

  /**
   * @param forced called when close() does not wait any longer
   * @param label method and route, for the session of a request
   * @throws FST_PG_SCOPE_CLOSED
   */
  open (config: SessionConfig, requestSettings?: () => Settings | Promise<Settings>, forced?: (error: Error) => void, label?: string): ManagedSession {
    if (this.#shutdown.closing) throw closedError()
    const session = config.mode === 'autocommit'
      ? new AutocommitSession(this.#host, config.singleStatement, config.transaction, requestSettings, label)
      : new ScopedSession(this.#host, config.transaction, requestSettings, label, label === undefined ? null : this)
    session.onForcedClose = forced
    this.#shutdown.sessions.add(session)
    if (label !== undefined) beginRequest(this)
    return session
  }

  async lease<T> (fn: (client: RawClient) => Promise<T> | T): Promise<T> {
    if (this.#shutdown.closing) throw closedError()
    if (typeof fn !== 'function') throw noFunction('lease', fn)
    let returned = false
    let ended = false
    const holder: ConnectionOwner = { get isClosed () { return returned } }
    this.#shutdown.asking++
    let lease: Lease
    try {
      lease = await new Promise<Lease>((resolve, reject) => this.#pool.acquire({ requireNew: false, exclusive: true, owner: holder, context: currentWork(), label: undefined, entry: null, granted: resolve, refused: reject }))
      this.#shutdown.leases.add(lease)
    } finally {
      this.#shutdown.asking--
      this.#shutdown.changed()
    }
    const giveBack = (): void => {
      returned = true
      lease.destroy()
    }
    const { client, prepared } = lease.connection
    // fn may not notice that its connection is lost, or go on for long: what is gone does not count against `max`.
    lease.usedBy({ unanswered: 0, connectionLost: giveBack })
    makeRaw(client, prepared?.named() ?? [], (error) => {
      if (!ended) this.#log.error({ err: error }, 'a stream on a leased client failed, and nothing listens for its error')
    })
    try {
      return await asWorkOf(holder, () => fn(client))
    } finally {
      ended = true
      this.#shutdown.leases.delete(lease)
      giveBack()
      this.#shutdown.changed()
    }
  }

  stats (): Stats {
    const now = performance.now()
    let oldest = now
    for (const { since } of this.#shutdown.sessions) if (since !== null && since < oldest) oldest = since
    return {
      strategy: this.#pool.kind,
      max: this.#options.pool.max,
      serverVersion: this.#watch.serverVersion,
      ...this.#pool.stats(),
      oldestTransaction: Math.round(now - oldest),
      counters: { ...this.#counters }
    }
  }

  async ping (timeout = 1000): Promise<number> {
    if (!Number.isInteger(timeout) || timeout < 1) throw optionsError('timeout', 'an integer ≥ 1 (milliseconds)', timeout)
    const start = performance.now()
    const session = new AutocommitSession({ ...this.#host, ended: () => {} }, this.#config.singleStatement, this.#config.transaction)
    const exhausted = (): boolean => this.#pool.stats().waiting > 0 && this.#pool.stats().inUse >= this.#options.pool.max
    const late = (): Error => exhausted()
      ? pgScopeError('FST_PG_SCOPE_POOL_EXHAUSTED', `No connection came free for ping() within ${timeout} ms: all ${this.#options.pool.max} are in use.`)
      : pgScopeError('FST_PG_SCOPE_UNREACHABLE', `${nameOf(this.#target)} did not answer within ${timeout} ms.`)
    if (this.#shutdown.closing) throw closedError()
    const answer = session.query('SELECT 1')
    let timer: NodeJS.Timeout | undefined
    try {
      await Promise.race([answer, new Promise((_resolve, reject) => { timer = setTimeout(() => reject(late()), timeout) })])
      return performance.now() - start
    } finally {
      clearTimeout(timer)
      session.end('rollback', pgScopeError('FST_PG_SCOPE_CANCELED', 'ping() waits no longer.'))
    }
  }

  async reset (): Promise<void> {
    if (this.#shutdown.closing) throw closedError()
    await this.#pool.reset()
  }

  /** The app begins to close: from here on `closeTimeout` runs. Work goes on. */
  drain (): void {
    this.#shutdown.drain()
  }

  get draining (): boolean {
    return this.#shutdown.draining
  }

  close (): Promise<void> {
    return this.#shutdown.close()
  }
}
