import type { FastifyBaseLogger } from 'fastify'
import type { HeldLock, LockOptions, Subscription } from '../../types/direct.ts'
import type { Engine, Pooler, RawClient, Stats } from '../../types/engine.ts'
import type { ScopeOptions } from '../../types/options.ts'
import type { OwnedSession, Session } from '../../types/session.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import type { ResolvedOptions } from '../config/options.ts'
import { scopeConfig, type SessionConfig } from '../config/session-config.ts'
import { Direct } from '../direct/direct.ts'
import { noFunction, pgScopeError } from '../errors.ts'
import { ObservedPromise } from '../observed-promise.ts'
import type { Settings } from '../exchange/transaction-config.ts'
import type { Writer } from '../exchange/written-position.ts'
import { ownFields } from '../own-fields.ts'
import { PoolerWatch } from '../pgbouncer/watch.ts'
import { newCounters } from '../pool/counters.ts'
import { closedError } from '../pool/pool-errors.ts'
import type { SessionStateReset } from '../pool/session-state-reset.ts'
import { asWorkOf, beginRequest, currentWork } from '../pool/work-context.ts'
import { identityOf, type Target, targetOf } from '../postgres/target.ts'
import { parsePosition, type WalPosition } from '../postgres/wal-position.ts'
import { AutocommitSession } from '../session/autocommit-session.ts'
import { followRequest, requireSession, type RunInRequest, runInSession } from '../session/current-session.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { rejected } from '../session/rejected.ts'
import { ScopedSession } from '../session/scoped-session.ts'
import { divert, type DivertibleEngine } from '../stand-in.ts'
import { delayUnlessAborted, endOnAbort } from './abort.ts'
import { buildPool, buildSessionStateReset, type PoolParts } from './build-pool.ts'
import { EngineSession } from './engine-session.ts'
import { inspectServer } from './inspect-server.ts'
import { OpenWork } from './open-work.ts'
import { checkPingTimeout, ping } from './ping.ts'
import { PoolInUse } from './pool-in-use.ts'
import { withRawLease } from './raw-lease.ts'
import { Replicas } from './replicas/replicas.ts'
import { committedInPart, Retries } from './retries.ts'
import { RetryDelays } from './retry-delays.ts'
import { buildSessionHost, type EngineSessionHost } from './session-host.ts'
import { Shutdown } from './shutdown.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

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
  readonly #host: EngineSessionHost
  readonly #replicas: Replicas | null
  readonly #pools: PoolInUse
  /** The session of `query()`. */
  readonly #ownSession: AutocommitSession
  readonly #shutdown: Shutdown
  readonly #delays = new RetryDelays()
  readonly #direct: Direct

  constructor (options: ResolvedOptions, log: FastifyBaseLogger) {
    this.#options = options
    this.#log = log
    this.#config = scopeConfig(options.defaults, {})
    this.#target = targetOf(options.client)
    this.#identity = identityOf(this, options.decorator, this.#target)
    const { transaction, singleStatement } = this.#config
    this.#watch = new PoolerWatch(options, this.#target, transaction.timeouts, log)
    this.#sessionState = buildSessionStateReset(options)
    const parts: PoolParts = {
      target: this.#target,
      counters: this.#counters,
      watch: this.#watch,
      sessionState: this.#sessionState,
      engineIdentity: this.#identity,
      baseline: () => this.#watch.baseline()
    }
    const replicaHost = { options, engineIdentity: this.#identity, timeouts: transaction.timeouts, log }
    this.#replicas = options.replicas === null ? null : new Replicas(replicaHost)
    const hostParts = { ...parts, work: this.#work, replicas: this.#replicas }
    this.#host = buildSessionHost(buildPool(options, parts, log), options, hostParts, log)
    this.#pools = new PoolInUse(this.#host, options, parts, {
      open: this.#work,
      isQuerying: () => this.#ownSession.working,
      isClosing: () => this.#shutdown.closing
    }, log)
    this.#ownSession = new EngineSession(this.#host, singleStatement, transaction)
    this.#direct = new Direct(options, this.#work, log)
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
   * connections, and checks the replicas.
   *
   * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED, FST_PG_SCOPE_OPTIONS
   */
  async start (): Promise<void> {
    if (!this.#options.startupCheck) return
    await inspectServer(this.#options, this.#target, this.#watch, this.#sessionState)
    try {
      await this.#host.pool.warm()
      await this.#replicas?.start()
    } catch (error) {
      // The boot fails, so close() will not be called: close the connections that are already open.
      await this.#pools.close()
      throw error
    }
  }

  get pooler (): Pooler {
    return this.#watch.pooler
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    if (this.#shutdown.closing) return rejected(closedError())
    return this.#ownSession.query(text, values, callback)
  }

  notify (channel: string, payload?: string): Promise<void> {
    return this.#shutdown.closing ? rejected(closedError()) : this.#ownSession.notify(channel, payload)
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
    for (let previous: ManagedSession | null = null; ;) {
      const session = this.#openFor(config, options)
      if (previous !== null) session.shareWriter(previous)
      previous = session
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
    return requireSession(this.#host.pool)
  }

  /** A request begins. @returns runs a function with the session of the request as the current one */
  followRequest (session: () => Session | null, writer: Writer | null): RunInRequest {
    return followRequest(this.#host.pool, session, writer)
  }

  session (options: ScopeOptions = {}): OwnedSession {
    const { retry } = ownFields(options)
    if (retry !== undefined && retry !== false) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`retry` has no effect in `session(options)`, which has no function ' +
        'to run again: use `scope(fn, { retry })`.')
    }
    return this.#openFor(this.#configOf(options), options)
  }

  #configOf (options: ScopeOptions): SessionConfig {
    return Object.keys(options).length === 0 ? this.#config : scopeConfig(this.#options.defaults, options)
  }

  #openFor (config: SessionConfig, options: ScopeOptions): ManagedSession {
    const { signal, notBefore } = ownFields(options)
    const position = notBefore == null ? null : parsePosition(notBefore)
    const session = this.open(config, undefined, undefined, undefined, position)
    if (signal !== undefined) endOnAbort(session, signal)
    return session
  }

  /**
   * Opens a session. Nothing is sent until its first statement.
   *
   * @param onForcedClose called when `closeTimeout` has elapsed
   * @param label for the session of a request
   * @param notBefore what a replica must have replayed before it serves this session
   * @throws FST_PG_SCOPE_CLOSED
   */
  open (
    config: SessionConfig,
    requestSettings?: () => Settings | Promise<Settings>,
    onForcedClose?: (error: Error) => void,
    label?: RequestLabel,
    notBefore: WalPosition | null = null
  ): ManagedSession {
    if (this.#shutdown.closing) throw closedError()
    const host = notBefore === null ? this.#host : { ...this.#host, notBefore }
    const session = config.mode === 'autocommit'
      ? new AutocommitSession(host, config.singleStatement, config.transaction, requestSettings, label)
      : new ScopedSession(host, config.transaction, requestSettings, label, label === undefined ? null : this)
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

  listen (...args: Parameters<Engine['listen']>): Promise<Subscription> {
    return this.#shutdown.closing ? rejected(closedError()) : this.#direct.listen(...args)
  }

  lock<T> (
    key: string | number | bigint, fn: (lock: HeldLock) => Promise<T> | T, options?: LockOptions
  ): Promise<T> {
    return this.#shutdown.closing ? rejected(closedError()) : this.#direct.lock(key, fn, options)
  }

  stats (): Stats {
    return {
      strategy: this.#host.pool.kind,
      max: this.#options.pool.max,
      serverVersion: this.#watch.serverVersion,
      ...this.#host.pool.stats(),
      oldestTransaction: this.#work.oldestTransaction,
      counters: { ...this.#counters },
      hosts: this.#target.hosts?.stats() ?? [],
      replicas: this.#replicas?.stats() ?? []
    }
  }

  async ping (timeout = 1000): Promise<number> {
    checkPingTimeout(timeout)
    if (this.#shutdown.closing) throw closedError()
    return ping(this.#host, this.#config, this.#target, this.#options.pool.max, timeout)
  }

  async reset (): Promise<void> {
    if (this.#shutdown.closing) throw closedError()
    await Promise.all([this.#host.pool.reset(), this.#replicas?.reset()])
  }

  [divert] (open: Parameters<DivertibleEngine[typeof divert]>[0]): Promise<() => Promise<void>> {
    return this.#pools.divert(open)
  }

  /** The app has begun to close: starts `closeTimeout`. New work is still accepted. */
  drain (): void {
    this.#stop()
    this.#shutdown.drain()
  }

  async close (): Promise<void> {
    this.#stop()
    await this.#shutdown.close()
    await this.#direct.close()
  }

  #stop (): void {
    this.#delays.stop()
    this.#direct.stop(closedError())
  }
}
