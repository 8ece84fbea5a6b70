import type { EventEmitter } from 'node:events'
import pg, { type CustomTypesConfig } from 'pg'
import { pgScopeError } from '../errors.ts'
import { currentOr, isEngine, librarySession } from '../library-source.ts'
import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { leavesOpen, type Step, stepsOf } from './control-statement.ts'
import { SessionClient } from './session-client.ts'
import { answer, type Callback, readArguments } from './statement-arguments.ts'

// Its declaration has properties where accessors are needed.
const PgPool = pg.Pool as unknown as new (options: object) => EventEmitter & { ending: boolean, ended: boolean }

const noop = (): void => {}

interface PoolOptions {
  types?: CustomTypesConfig | undefined
}

/** What a library takes for a pool of pg: its clients are those of the current session. */
export class EnginePool extends PgPool {
  readonly #engine: Engine
  readonly #types: CustomTypesConfig | undefined

  constructor (engine: Engine, options: PoolOptions = {}) {
    super({ max: engine.stats().max })
    this.#engine = engine
    this.#types = options.types
  }

  connect (callback?: (error: Error | undefined, client?: PooledClient, release?: unknown) => void): any {
    let client: PooledClient
    try {
      client = this.#open()
    } catch (error) {
      return answer(Promise.reject(error), callback as Callback)
    }
    this.emit('acquire', client)
    if (callback === undefined) return Promise.resolve(client)
    process.nextTick(callback, undefined, client, client.release)
  }

  #open (): PooledClient {
    this.#checkOpen()
    const target = currentOr(this.#engine)
    return new PooledClient(target, this.#types, (client, error) => { this.emit('release', error, client) })
  }

  query (first: any, second?: any, third?: any): any {
    if (typeof first?.submit === 'function') return this.#withClient((client) => client.query(first, second, third))
    const { text, config, callback } = readArguments(first, second, third, this.#types)
    const steps = typeof text === 'string' ? stepsOf(text) : null
    if (steps !== null) return answer(this.#runSteps(steps, config), callback)
    return answer(this.#withClient((client) => client.query(config)), callback)
  }

  #withClient (run: (client: SessionClient) => any): any {
    try {
      this.#checkOpen()
      return run(new SessionClient(() => currentOr(this.#engine), { types: this.#types }))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** A text that begins a transaction must end it, because no later call is sure to get the same client. */
  #runSteps (steps: readonly Step[], config: object): Promise<unknown> {
    let client: PooledClient
    try {
      client = this.#open()
    } catch (error) {
      return Promise.reject(error)
    }
    const result = leavesOpen(steps) ? client.reject(unendedError()) : client.query(config)
    const release = (): void => client.release()
    // Not by its own then(): the session must know whether the caller awaits it.
    Promise.prototype.then.call(result, release, release)
    return result
  }

  #checkOpen (): void {
    if (this.ending) {
      throw pgScopeError('FST_PG_SCOPE_CLOSED', 'connect() or query() was called after end() of this pool.')
    }
  }

  /** The pool takes no calls any more. The engine goes on, because it belongs to the app. */
  end (callback?: Callback<void>): any {
    this.ending = this.ended = true
    return answer(Promise.resolve(), callback)
  }

  get totalCount (): number {
    return this.#engine.stats().open
  }

  get idleCount (): number {
    return this.#engine.stats().idle
  }

  get waitingCount (): number {
    return this.#engine.stats().waiting
  }
}

/** A client from connect(), until its release(). */
class PooledClient extends SessionClient {
  #isReleased = false
  readonly #session: Session | Engine
  readonly #released: (client: PooledClient, error: unknown) => void

  constructor (
    target: Session | Engine, types: CustomTypesConfig | undefined,
    released: (client: PooledClient, error: unknown) => void
  ) {
    super(() => target, { types })
    this.#session = target
    this.#released = released
    // Libraries call it without the client.
    this.release = this.release.bind(this)
  }

  override release (error?: Error | boolean): void {
    // No other code can have this client by now. Knex releases the client of a stream twice.
    if (this.#isReleased) return
    this.#isReleased = true
    super.release(error)
    this.#released(this, error)
  }

  override query (first: any, second?: any, third?: any): any {
    if (!this.#isReleased) return super.query(first, second, third)
    const { callback } = readArguments(first, second, third, undefined)
    return answer(this.reject(releasedError()), callback)
  }

  /** Rejects a call: a session fails with it. */
  reject (error: Error): Promise<never> {
    const rejected = Promise.reject(error)
    if (!isEngine(this.#session)) {
      librarySession(this.#session)?.invalid(error)
      rejected.catch(noop)
    }
    return rejected
  }
}

function unendedError (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'pool.query() got a text that begins a transaction and ' +
    'does not end it: nothing was sent. Take a client by pool.connect(), and send BEGIN and COMMIT on it.')
}

function releasedError (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'query() was called on a client that has been released.')
}
