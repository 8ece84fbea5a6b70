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

/**
 * What a library takes for a client of pg: its statements run on a session, or on an engine, where each is committed by
 * itself. What begins and ends transactions there becomes a LibraryTransaction.
 */
export class SessionClient extends EventEmitter {
  /** A client of pg has it; zapatos looks for it. */
  readonly _connected = true
  readonly processID = null
  /** Called for each statement outside of the client's transactions. */
  readonly #target: () => Session | Engine
  #types: CustomTypesConfig | undefined
  /** What this client has begun. */
  #transaction: LibraryTransaction | null = null
  /** The last call that later calls have to wait for, or null: a pg client answers in order. */
  #last: Promise<unknown> | null = null
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

  #run (text: unknown, config: Record<string, unknown>): Promise<any> {
    const values = config.values as readonly unknown[] | undefined
    const isWhole = typeof text !== 'string' || (Array.isArray(values) && values.length > 0)
    const steps = isWhole ? null : stepsOf(text)
    if (steps === null) return this.#send(config)
    return this.#inOrder(() => this.#runSteps(steps, config))
  }

  async #runSteps (steps: readonly Step[], config: object): Promise<unknown> {
    const results: unknown[] = []
    for (const step of steps) results.push(await this.#runStep(step, config))
    return results.length === 1 ? results[0] : results.flat()
  }

  async #runStep (step: Step, config: object): Promise<QueryResult | QueryResult[]> {
    const transaction = this.#transaction
    switch (step.kind) {
      case 'plain':
        await transaction?.turn
        return await this.#query({ ...config, text: step.text })
      case 'begin':
        this.#transaction ??= await this.#begin(step.modes)
        return done('BEGIN')
      case 'set': {
        await transaction?.turn
        const text = transaction === null ? step.text : await transaction.set(step.modes, step.text)
        return text === null ? done('SET') : await this.#query({ text })
      }
      case 'commit':
      case 'rollback':
        this.#transaction = null
        // Without BEGIN the server warns, and does nothing.
        await transaction?.[step.kind]()
        if (step.chain && transaction !== null) this.#transaction = await this.#begin({})
        return done(step.kind.toUpperCase())
      default:
        return await this.#atSavepoint(step)
    }
  }

  async #atSavepoint ({ kind, name }: Extract<Step, { name: string }>): Promise<QueryResult> {
    const transaction = this.#transaction ??= this.#withoutBegin()
    try {
      await transaction.turn
      await transaction[kind](name)
    } finally {
      if (transaction.isEmpty) {
        transaction.end()
        this.#transaction = null
      }
    }
    return done(kind === 'rollbackTo' ? 'ROLLBACK' : kind.toUpperCase())
  }

  async #begin (modes: TransactionModes): Promise<LibraryTransaction> {
    const target = this.#target()
    return isEngine(target) ? beginOwn(target, modes) : await transactionsOf(target).begin(modes)
  }

  #withoutBegin (): LibraryTransaction {
    const target = this.#target()
    if (!isEngine(target)) return transactionsOf(target).enter()
    throw pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'SAVEPOINT, RELEASE and ROLLBACK TO need a transaction: ' +
      'send BEGIN first.')
  }

  /** Sends one statement, now if nothing stands in front of it. Statements do not wait for each other's answers. */
  #send (config: object): Promise<any> {
    if (this.#last !== null) {
      const sent = this.#last.then(() => this.#sendInTurn(config))
      // A session remembers the failure of a statement that nobody awaits.
      if (this.#transaction !== null || !isEngine(this.#target())) sent.catch(noop)
      return sent
    }
    const turn = this.#transaction?.turn ?? null
    return turn === null ? this.#query(config) : this.#inOrder(() => turn.then(() => this.#query(config)))
  }

  #sendInTurn (config: object): Promise<any> {
    const turn = this.#transaction?.turn ?? null
    return turn === null ? this.#query(config) : turn.then(() => this.#query(config))
  }

  #query (config: object): Promise<any> {
    try {
      const target = this.#transaction?.session ?? this.#target()
      if (isEngine(target)) checkUnbound(config)
      return target.query(config as any)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Starts a call when the one before it has ended, whatever its outcome was. */
  #inOrder<T> (start: () => Promise<T>): Promise<T> {
    const call = this.#last === null ? start() : this.#last.then(start)
    const leave = (): void => { if (this.#last === last) this.#last = null }
    const last = this.#last = call.then(leave, leave)
    return call
  }

  /** For pg-cursor and pg-query-stream. The session rejects others, with the alternative. */
  #submit (submittable: any, callback?: Callback): any {
    submittable.callback ??= callback
    const cursor = cursorOf(submittable)
    if (cursor !== null) {
      const target = this.#inOrder(async () => {
        await this.#transaction?.turn
        return this.#transaction?.session ?? this.#target()
      })
      openCursor(cursor, target, submittable.readableHighWaterMark)
      return submittable
    }
    const refused: Promise<unknown> = this.#query(submittable)
    if (!(submittable instanceof Readable) && typeof submittable.destroy !== 'function') return refused
    refused.catch((error) => submittable.destroy(error))
    return submittable
  }

  /** Rolls back what the library has left open. */
  release (_error?: Error | boolean): void {
    if (this.#transaction === null && this.#last === null) return
    const roll = async (): Promise<void> => {
      const transaction = this.#transaction
      this.#transaction = null
      await transaction?.rollback()
    }
    this.#inOrder(roll).catch(noop)
  }

  end (callback?: Callback): Promise<void> | undefined {
    this.release()
    const ended = (this.#last ?? Promise.resolve()).then(() => { this.emit('end') })
    return answer(ended, callback)
  }

  getTransactionStatus (): string {
    return this.#transaction === null ? 'I' : this.#transaction.session.state === 'failed' ? 'E' : 'T'
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
