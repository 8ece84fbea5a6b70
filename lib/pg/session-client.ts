import { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import pg, { type CustomTypesConfig } from 'pg'
import { pgScopeError } from '../errors.ts'
import { isEngine, type TransactionModes } from '../library-source.ts'
import type { Engine } from '../../types/engine.ts'
import type { QueryResult } from '../../types/query.ts'
import type { Session } from '../../types/session.ts'
import { type Step, stepsOf } from './control-statement.ts'
import { cursorOf, openCursor } from './cursor.ts'
import type { LibraryTransaction } from './library-transaction.ts'
import { beginOwn, transactionsOf } from './library-transactions.ts'
import { checkUnbound } from './unbound-statement.ts'
import { answer, type Callback, readArguments, resultOf } from './statement-arguments.ts'

const noop = (): void => {}
const newResult = (): object => new (pg as unknown as { Result: new () => object }).Result()

/** What one client does on one session or engine. */
interface Progress {
  readonly target: Session | Engine
  /** What the client has begun. */
  transaction: LibraryTransaction | null
  /** The last call that later calls have to wait for, or null: a pg client answers in order. */
  last: Promise<unknown> | null
}

/**
 * What a library takes for a client of pg: its statements run on a session, or on an engine, where each is committed by
 * itself. What begins and ends transactions there becomes a LibraryTransaction.
 */
export class SessionClient extends EventEmitter {
  /** A client of pg has it; zapatos looks for it. */
  readonly _connected = true
  readonly processID = null
  /** Called for each call. */
  readonly #target: () => Session | Engine
  #types: CustomTypesConfig | undefined
  /** For each session and engine that the client was used on: requests that share a client stay apart. */
  #progress: WeakMap<object, Progress> | null = null
  #connection: EventEmitter | null = null

  constructor (target: () => Session | Engine, config?: { types?: CustomTypesConfig | undefined }) {
    super()
    this.#target = target
    this.#types = config?.types
  }

  connect (callback?: Callback): Promise<unknown> | undefined {
    return answer(Promise.resolve(this), callback)
  }

  query (first: any, second?: any, third?: any): any {
    if (typeof first?.submit === 'function') return this.#submit(first, second ?? third)
    const { text, config, callback } = readArguments(first, second, third, this.#types)
    return answer(this.#run(text, config), callback)
  }

  /** Where a call runs, and what this client has begun there. */
  #here (): Progress {
    const target = this.#target()
    this.#progress ??= new WeakMap()
    let here = this.#progress.get(target)
    if (here === undefined) this.#progress.set(target, here = { target, transaction: null, last: null })
    return here
  }

  #run (text: unknown, config: Record<string, unknown>): Promise<any> {
    const values = config.values as readonly unknown[] | undefined
    try {
      const here = this.#here()
      const isWhole = typeof text !== 'string' || (Array.isArray(values) && values.length > 0)
      const steps = isWhole ? null : stepsOf(text)
      if (steps === null) return this.#send(here, config)
      return inOrder(here, () => this.#runSteps(here, steps, config))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #runSteps (here: Progress, steps: readonly Step[], config: object): Promise<unknown> {
    const results: unknown[] = []
    for (const step of steps) results.push(await this.#runStep(here, step, config))
    return results.length === 1 ? results[0] : results.flat()
  }

  async #runStep (here: Progress, step: Step, config: object): Promise<QueryResult | QueryResult[]> {
    leaveLost(here, step)
    const { transaction } = here
    switch (step.kind) {
      case 'plain':
        await transaction?.turn
        return await send(here, { ...config, text: step.text })
      case 'begin':
        here.transaction ??= await begin(here.target, step.modes)
        return done('BEGIN')
      case 'set': {
        await transaction?.turn
        const text = transaction === null ? step.text : await transaction.set(step.modes, step.text)
        return text === null ? done('SET') : await send(here, { text })
      }
      case 'commit':
      case 'rollback':
        try {
          // Without BEGIN the server warns, and does nothing.
          await transaction?.[step.kind]()
        } finally {
          if (transaction?.isOver !== false) here.transaction = null
        }
        if (step.chain && transaction !== null) here.transaction = await begin(here.target, {})
        return done(step.kind.toUpperCase())
      default:
        return await this.#atSavepoint(here, step)
    }
  }

  async #atSavepoint (here: Progress, { kind, name }: Extract<Step, { name: string }>): Promise<QueryResult> {
    const transaction = here.transaction ??= withoutBegin(here.target)
    try {
      await transaction.turn
      await transaction[kind](name)
    } finally {
      if (transaction.isEmpty) {
        transaction.end()
        here.transaction = null
      }
    }
    return done(kind === 'rollbackTo' ? 'ROLLBACK' : kind.toUpperCase())
  }

  /** Sends one statement, now if nothing stands in front of it. Statements do not wait for each other's answers. */
  #send (here: Progress, config: object): Promise<any> {
    if (here.last !== null) {
      const sent = here.last.then(() => sendInTurn(here, config))
      // A session remembers the failure of a statement that nobody awaits.
      if (here.transaction !== null || !isEngine(here.target)) sent.catch(noop)
      return sent
    }
    const turn = here.transaction?.turn ?? null
    return turn === null ? send(here, config) : inOrder(here, () => turn.then(() => send(here, config)))
  }

  /** For pg-cursor and pg-query-stream. The session rejects others, with the alternative. */
  #submit (submittable: any, callback?: Callback): any {
    submittable.callback ??= callback
    const here = this.#here()
    const cursor = cursorOf(submittable)
    if (cursor !== null) {
      const target = inOrder(here, async () => {
        await here.transaction?.turn
        return here.transaction?.session ?? here.target
      })
      openCursor(cursor, target, submittable.readableHighWaterMark)
      return submittable
    }
    const refused: Promise<unknown> = send(here, submittable)
    if (!(submittable instanceof Readable) && typeof submittable.destroy !== 'function') return refused
    refused.catch((error) => submittable.destroy(error))
    return submittable
  }

  /** Where the client is used now, or null outside of all sessions that it follows. */
  #found (): Progress | null {
    try {
      return this.#here()
    } catch {
      return null
    }
  }

  /** Rolls back what the library has left open. */
  release (_error?: Error | boolean): void {
    const here = this.#found()
    if (here === null || (here.transaction === null && here.last === null)) return
    const roll = async (): Promise<void> => {
      const { transaction } = here
      here.transaction = null
      await transaction?.rollback()
    }
    inOrder(here, roll).catch(noop)
  }

  end (callback?: Callback): Promise<void> | undefined {
    this.release()
    const ended = (this.#found()?.last ?? Promise.resolve()).then(() => { this.emit('end') })
    return answer(ended, callback)
  }

  getTransactionStatus (): string {
    const transaction = this.#found()?.transaction ?? null
    return transaction === null ? 'I' : transaction.session.state === 'failed' ? 'E' : 'T'
  }

  getTypeParser (oid: number, format?: 'text' | 'binary'): unknown {
    return (this.#types ?? pg.types).getTypeParser(oid, format as any)
  }

  setTypeParser (oid: number, ...rest: [any, any?]): void {
    const overrides = this.#types instanceof pg.TypeOverrides ? this.#types : new pg.TypeOverrides(this.#types as any)
    ;(overrides.setTypeParser as any)(oid, ...rest)
    this.#types = overrides
  }

  ref (): void {}
  unref (): void {}

  /** Sequelize listens here for what the server announces. */
  get connection (): EventEmitter {
    this.#connection ??= new EventEmitter()
    return this.#connection
  }
}

// For libraries that ask for `instanceof pg.Client`. Its constructor would make a socket.
Object.setPrototypeOf(SessionClient.prototype, pg.Client.prototype)

function done (command: string): QueryResult {
  return resultOf(command, newResult)
}

async function begin (target: Session | Engine, modes: TransactionModes): Promise<LibraryTransaction> {
  return isEngine(target) ? beginOwn(target, modes) : await transactionsOf(target).begin(modes)
}

function withoutBegin (target: Session | Engine): LibraryTransaction {
  if (!isEngine(target)) return transactionsOf(target).enter()
  throw pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'SAVEPOINT, RELEASE and ROLLBACK TO need a transaction: ' +
    'send BEGIN first.')
}

/** BEGIN and ROLLBACK leave a transaction that what is around it has ended. Its other calls are rejected. */
function leaveLost (here: Progress, { kind }: Step): void {
  if ((kind === 'begin' || kind === 'rollback') && here.transaction?.isLost === true) here.transaction = null
}

function sendInTurn (here: Progress, config: object): Promise<any> {
  const turn = here.transaction?.turn ?? null
  return turn === null ? send(here, config) : turn.then(() => send(here, config))
}

function send (here: Progress, config: object): Promise<any> {
  try {
    const target = here.transaction?.session ?? here.target
    if (isEngine(target)) checkUnbound(config)
    return target.query(config as any)
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Starts a call when the one before it has ended, whatever its outcome was. */
function inOrder<T> (here: Progress, start: () => Promise<T>): Promise<T> {
  const call = here.last === null ? start() : here.last.then(start)
  const leave = (): void => { if (here.last === last) here.last = null }
  const last = here.last = call.then(leave, leave)
  // A promise of its own: a failure that nobody awaits stays an unhandled rejection outside of sessions.
  return isEngine(here.target) ? call.then((result) => result) : call
}
