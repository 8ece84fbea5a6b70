import type { FastifyBaseLogger } from 'fastify'
import type { Engine, Pooler, RawClient, Stats } from '../../types/engine.ts'
import type { ScopeOptions } from '../../types/options.ts'
import type { OwnedSession, Session } from '../../types/session.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import type { ResolvedOptions } from '../config/options.ts'
import { scopeConfig, type SessionConfig } from '../config/session-config.ts'
import { noFunction, pgScopeError } from '../errors.ts'
import { ObservedPromise } from '../exchange/observed-promise.ts'
import type { Settings } from '../exchange/transaction-config.ts'
import { ownFields } from '../own-fields.ts'
import { detectPooler } from '../pgbouncer/detect.ts'
import { PoolerWatch } from '../pgbouncer/watch.ts'
import { newCounters } from '../pool/counters.ts'
import { closedError } from '../pool/pool-errors.ts'
import type { Pool } from '../pool/pool.ts'
import type { SessionStateReset } from '../pool/session-state-reset.ts'
import { asWorkOf, beginRequest, currentWork } from '../pool/work-context.ts'
import { nameOf, type Target, targetOf } from '../postgres/target.ts'
import { AutocommitSession } from '../session/autocommit-session.ts'
import { currentSession, followRequest, type RunInRequest, runInSession } from '../session/current-session.ts'
import type { ManagedSession, SessionHost } from '../session/managed-session.ts'
import { rejected } from '../session/rejected.ts'
import { ScopedSession } from '../session/scoped-session.ts'
import { divert, type DivertibleEngine } from '../stand-in.ts'
import { delayUnlessAborted, endOnAbort } from './abort.ts'
import { buildPool, buildSessionStateReset, type PoolParts } from './build-pool.ts'
import { OpenWork } from './open-work.ts'
import { checkPingTimeout, ping } from './ping.ts'
import { PoolInUse } from './pool-in-use.ts'
import { withRawLease } from './raw-lease.ts'
import { committedInPart, Retries } from './retries.ts'
import { RetryDelays } from './retry-delays.ts'
import { buildSessionHost } from './session-host.ts'
import { Shutdown } from './shutdown.ts'

/**
 * `app.db`: owns the pool, opens sessions and closes all of it. The plugin creates one engine per registration. The
 * hooks of lib/request open a session for each request that uses `request.db`.
 */
export class PgEngine implements Engine, DivertibleEngine {
  readonly #options: ResolvedOptions
  readonly #log: FastifyBaseLogger
  /** The configuration of sessions without options of their own. */
  readonly #config: SessionConfig
  readonly #target: Target
  readonly #counters = newCounters()
  readonly #identity: EngineIdentity
  readonly #work = new OpenWork()
  readonly #watch: PoolerWatch
  /** null if connections are not reset between sessions. */
  readonly #sessionState: SessionStateReset | null
  /** Names the pool that the sessions use. */
  readonly #host: SessionHost & { pool: Pool }
  readonly #pools: PoolInUse
  /** The session of `query()`. */
  readonly #ownSession: AutocommitSession
  readonly #shutdown: Shutdown
  readonly #delays = new RetryDelays()

  constructor (options: ResolvedOptions, log: FastifyBaseLogger) {
    this.#options = options
    this.#log = log
    this.#config = scopeConfig(options.defaults, {})
    this.#target = targetOf(options.client)
    this.#identity = Object.freeze({ db: this, decorator: options.decorator, ...this.#target })
    const { transaction, singleStatement } = this.#config
    this.#watch = new PoolerWatch(options, this.#target, transaction.timeouts, log)
    this.#sessionState = buildSessionStateReset(options, this.#watch)
    const parts: PoolParts = {
      target: this.#target,
      counters: this.#counters,
      watch: this.#watch,
      sessionState: this.#sessionState,
      engineIdentity: this.#identity,
      baseline: () => this.#watch.baseline()
    }
    this.#host = buildSessionHost(buildPool(options, parts, log), options, { ...parts, work: this.#work }, log)
    this.#pools = new PoolInUse(this.#host, options, parts, {
      open: this.#work,
      isQuerying: () => this.#ownSession.working,
      isClosing: () => this.#shutdown.closing
    }, log)
    this.#ownSession = new AutocommitSession(this.#host, singleStatement, transaction)
    this.#shutdown = new Shutdown({
      work: this.#work,
      pools: this.#pools,
      counters: this.#counters,
      ownSession: this.#ownSession,
      log,
      closeTimeout: options.closeTimeout
    })
  }

  /**
   * Connects once, so that a wrong address or password fails the boot, and detects a pooler. Then opens `pool.min`
   * connections.
   *
   * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED, FST_PG_SCOPE_OPTIONS
   */
  async start (): Promise<void> {
    if (!this.#options.startupCheck) return
    await this.#inspectServer()
    try {
      await this.#host.pool.warm()
    } catch (error) {
      // The boot fails, so close() will not be called: close the connections that are already open.
      await this.#pools.close()
      throw error
    }
  }

  async #inspectServer (): Promise<void> {
    const { client, pool: { acquireTimeout } } = this.#options
    const found = await detectPooler(client, this.#target, acquireTimeout, async (client, pooler) => {
      this.#watch.found(pooler)
      await this.#sessionState?.learn(client)
    })
    const { pooler, version, serverVersion, oneSchema } = found
    if (this.#config.transaction.timeouts.transaction_timeout !== undefined && version < 170000) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`transactionTimeout` requires PostgreSQL 17 or later, ' +
        `and ${nameOf(this.#target)} runs ${Math.floor(version / 10000)}: remove the option.`)
    }
    if (this.#options.resolveCommits && version < 130000) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`resolveCommits` requires PostgreSQL 13 or later, ' +
        `and ${nameOf(this.#target)} runs ${Math.floor(version / 10000)}: remove the option.`)
    }
    this.#watch.found(pooler)
    this.#watch.serverVersion = serverVersion
    this.#watch.searches(oneSchema)
  }

  get pooler (): Pooler {
    return this.#watch.pooler
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    if (this.#shutdown.closing) return rejected(closedError())
    return this.#ownSession.query(text, values, callback)
  }

  scope<T> (fn: (session: Session) => Promise<T> | T, options: ScopeOptions = {}): Promise<T> {
    if (currentWork() === null) return this.#scope(fn, options)
    // Deadlock detection must know whether the surrounding work awaits this scope or can continue.
    const promise: ObservedPromise<T> = new ObservedPromise((resolve) => {
      resolve(this.#scope(fn, options, () => !promise.observed))
    })
    return promise
  }

  async #scope<T> (
    fn: (session: Session) => Promise<T> | T, options: ScopeOptions, unawaited?: () => boolean
  ): Promise<T> {
    if (typeof fn !== 'function') throw noFunction('scope', fn)
    const config = this.#configOf(options)
    const { signal } = ownFields(options)
    const retries = this.retries(config, this.#log)
    for (;;) {
      const session = this.#openFor(config, signal)
      session.endIsAwaited = true
      session.attempt = retries?.attempt ?? 1
      try {
        const run = (): Promise<T> => runInSession(this.#host.pool, session, () => fn(session))
        const result = await asWorkOf(session, run, unawaited)
        await session.end('commit')
        return result
      } catch (error) {
        // The session forgets it as it ends.
        const { failure } = session
        await session.end('rollback').catch(() => {})
        if (retries === null || !retries.isConflict(error, failure)) throw error
        const obstacle = session.hasCommitted ? committedInPart : retries.limit
        if (obstacle !== null) throw retries.explain(error, obstacle)
        await delayUnlessAborted(retries, error, failure, signal)
        retries.next()
      }
    }
  }

  /** The attempts of one handler or function; null without the option `retry`. */
  retries ({ retry }: SessionConfig, log: FastifyBaseLogger): Retries | null {
    return retry === null ? null : new Retries(retry, this.#delays, this.#counters, log)
  }

  current (): Session {
    const session = currentSession(this.#host.pool)
    if (session !== null) return session
    throw pgScopeError('FST_PG_SCOPE_NO_SESSION', 'current() was called outside of a request, a scope(fn) and a ' +
      'transaction(fn) of this engine, or by code that has lost its async context, such as a worker or a timer that ' +
      'was started elsewhere. Pass the session on, or use app.db.scope(fn) or app.db.query().')
  }

  /** A request begins. @returns runs a function with the session of the request as the current one */
  followRequest (session: () => Session | null): RunInRequest {
    return followRequest(this.#host.pool, session)
  }

  session (options: ScopeOptions = {}): OwnedSession {
    const { retry, signal } = ownFields(options)
    if (retry !== undefined && retry !== false) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`retry` has no effect in `session(options)`, which has no function ' +
        'to run again: use `scope(fn, { retry })`.')
    }
    return this.#openFor(this.#configOf(options), signal)
  }

  #configOf (options: ScopeOptions): SessionConfig {
    return Object.keys(options).length === 0 ? this.#config : scopeConfig(this.#options.defaults, options)
  }

  #openFor (config: SessionConfig, signal: AbortSignal | undefined): ManagedSession {
    const session = this.open(config)
    if (signal !== undefined) endOnAbort(session, signal)
    return session
  }

  /**
   * Opens a session. Nothing is sent until its first statement.
   *
   * @param onForcedClose called when `closeTimeout` has elapsed
   * @param label method and route, for the session of a request
   * @throws FST_PG_SCOPE_CLOSED
   */
  open (
    config: SessionConfig,
    requestSettings?: () => Settings | Promise<Settings>,
    onForcedClose?: (error: Error) => void,
    label?: string
  ): ManagedSession {
    if (this.#shutdown.closing) throw closedError()
    const session = config.mode === 'autocommit'
      ? new AutocommitSession(this.#host, config.singleStatement, config.transaction, requestSettings, label)
      : new ScopedSession(this.#host, config.transaction, requestSettings, label, label === undefined ? null : this)
    session.onForcedClose = onForcedClose
    this.#work.sessions.add(session)
    if (label !== undefined) beginRequest(this)
    return session
  }

  async lease<T> (fn: (client: RawClient) => Promise<T> | T): Promise<T> {
    if (this.#shutdown.closing) throw closedError()
    if (typeof fn !== 'function') throw noFunction('lease', fn)
    return withRawLease(this.#host.pool, this.#work, this.#log, fn)
  }

  stats (): Stats {
    const now = performance.now()
    let oldest = now
    for (const { since } of this.#work.sessions) if (since !== null && since < oldest) oldest = since
    return {
      strategy: this.#host.pool.kind,
      max: this.#options.pool.max,
      serverVersion: this.#watch.serverVersion,
      ...this.#host.pool.stats(),
      oldestTransaction: Math.round(now - oldest),
      counters: { ...this.#counters }
    }
  }

  async ping (timeout = 1000): Promise<number> {
    checkPingTimeout(timeout)
    if (this.#shutdown.closing) throw closedError()
    return ping(this.#host, this.#config, this.#target, this.#options.pool.max, timeout)
  }

  async reset (): Promise<void> {
    if (this.#shutdown.closing) throw closedError()
    await this.#host.pool.reset()
  }

  [divert] (open: Parameters<DivertibleEngine[typeof divert]>[0]): Promise<() => Promise<void>> {
    return this.#pools.divert(open)
  }

  /** The app has begun to close: starts `closeTimeout`. New work is still accepted. */
  drain (): void {
    this.#delays.stop()
    this.#shutdown.drain()
  }

  get draining (): boolean {
    return this.#shutdown.draining
  }

  close (): Promise<void> {
    this.#delays.stop()
    return this.#shutdown.close()
  }
}
