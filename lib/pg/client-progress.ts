import pg from 'pg'
import { pgScopeError } from '../errors.ts'
import type { CallConfig, Caller, ClientTransaction, ForLibraries } from '../library-session.ts'
import { isEngine, librarySession, type TransactionModes } from '../library-source.ts'
import { ObservedPromise } from '../observed-promise.ts'
import type { Engine } from '../../types/engine.ts'
import type { QueryResult } from '../../types/query.ts'
import type { OwnedSession, RowStream, Session } from '../../types/session.ts'
import { type PlacedStep, placeSteps, type Step } from './control-statement.ts'
import { asDriverError } from './driver-error.ts'
import { resultOf } from './statement-arguments.ts'
import { checkUnbound } from './unbound-statement.ts'

const noop = (): void => {}
const newResult = (): object => new (pg as unknown as { Result: new () => object }).Result()

/** A stream, and the session that was opened for it alone, or null. */
export interface OpenedStream {
  readonly rows: RowStream
  readonly own: OwnedSession | null
}

/**
 * What one client does on one session or engine. Every call is made on the session at once, so that the session knows
 * of it, and keeps the order: nothing waits here.
 */
export class ClientProgress {
  readonly #target: Session | Engine
  /** What the client has begun last. It may have ended meanwhile. */
  #transaction: ClientTransaction | null = null
  #modes: TransactionModes = {}

  constructor (target: Session | Engine) {
    this.#target = target
  }

  /** The transaction that the calls of the client belong to, or follow. */
  get #current (): ClientTransaction | null {
    if (this.#transaction?.isOver === true && !this.#transaction.isLost) this.#transaction = null
    return this.#transaction
  }

  /** The transaction that the calls of the client belong to. */
  get #open (): ClientTransaction | null {
    return this.#current?.isLeaving === true ? null : this.#current
  }

  get status (): string {
    const open = this.#open
    if (open === null) return 'I'
    return open.isLost || open.state === 'failed' ? 'E' : 'T'
  }

  send (config: CallConfig): Promise<any> {
    return this.#call(config, (target, config) => {
      if (isEngine(target)) checkUnbound(config)
      return target.query(config as any)
    })
  }

  stream (config: CallConfig, batchSize: number): Promise<OpenedStream> {
    return this.#call(config, async (target, config) => {
      const own = isEngine(target) ? target.session({ mode: 'transaction' }) : null
      return { own, rows: (own ?? target as Session).stream(config as any, { batchSize }) }
    })
  }

  #call<T> (config: CallConfig, call: (target: Session | Engine, config: CallConfig) => Promise<T>): Promise<T> {
    const here = (config: CallConfig, target = this.#target): Promise<T> => {
      try {
        return call(target, config)
      } catch (error) {
        return Promise.reject(error)
      }
    }
    const current = this.#current
    if (current === null) return here(config)
    if (current.isLeaving) {
      const made = current.runAfter(config, here)
      // A session remembers the failure.
      if (!isEngine(this.#target)) made.catch(noop)
      return made
    }
    return current.run((own) => here(config, own ?? this.#target))
  }

  /** Runs the commands and statements of one text, up to the first that fails. */
  run (steps: readonly Step[], config: CallConfig): Promise<any> {
    let settle!: (result: Promise<any>) => void
    const caller: Caller = new ObservedPromise<any>((resolve) => { settle = resolve })
    const isText = steps.length > 1
    // Elsewhere all of it is part of the session's transaction.
    const results = this.#isReal
      ? placeSteps(steps, this.#open !== null, isEngine(this.#target)).map((placed) =>
        this.#placed(placed, config, caller, isText))
      : steps.map((step) => this.#step(step, config, caller, isText))
    // The first failure is that of the text.
    for (const result of results) result.catch(noop)
    settle(isText ? inOrder(results) : results[0]!)
    return caller
  }

  /** As PostgreSQL does it where BEGIN and COMMIT are sent to the server: see placeSteps(). */
  async #placed (
    { step, implicit, isRefused }: PlacedStep, config: CallConfig, caller: Caller, isText: boolean
  ): Promise<any> {
    const begun = implicit === 'begins' ? this.#begin(caller, {}) : null
    begun?.catch(noop)
    const transaction = implicit === null ? null : this.#open
    try {
      if (isRefused) throw needsBegin()
      const result = await this.#step(step, config, caller, isText)
      await begun
      return implicit === 'ends' ? [] : result
    } catch (error) {
      await transaction?.rollback(new ObservedPromise<void>(noop)).catch(noop)
      throw error
    }
  }

  async #step (step: Step, config: CallConfig, caller: Caller, isText: boolean): Promise<QueryResult | QueryResult[]> {
    const open = this.#open
    switch (step.kind) {
      case 'plain':
        // The session remembers the failure of a statement.
        return await this.send({ ...config, text: step.text }).catch((error) => {
          if (!isEngine(this.#target)) caller.silence()
          throw error
        })
      case 'begin':
        if (open === null || open.isLost) await this.#begin(caller, step.modes)
        return done('BEGIN')
      case 'set':
        if (open === null) return await this.send({ text: step.text })
        this.#modes = withModes(this.#modes, step.modes)
        await open.set(step.modes)
        return done(step.command)
      case 'commit':
      case 'rollback': {
        // Without BEGIN the server warns, and does nothing.
        const ended = open?.[step.kind](caller, isText || step.chain)
        const next = step.chain && open !== null ? this.#begin(caller, this.#modes) : null
        const chained = this.#transaction
        next?.catch(noop)
        await ended?.catch((error) => {
          // No transaction follows one that has failed to commit.
          if (next !== null && this.#transaction === chained && open!.isOver) this.#transaction = null
          throw this.#isReal ? asDriverError(error) : error
        })
        await next
        return done(step.kind.toUpperCase())
      }
      case 'savepoint':
        await (open === null ? this.#begin(caller, {}, step.name) : open.savepoint(step.name))
        return done('SAVEPOINT')
      case 'release':
        await this.#inTransaction(open).release(caller, step.name)
        return done('RELEASE')
      case 'rollbackTo':
        await this.#inTransaction(open).rollbackTo(caller, step.name, isText)
        return done('ROLLBACK')
    }
  }

  /** BEGIN and COMMIT are sent to the server. */
  get #isReal (): boolean {
    return isEngine(this.#target) || this.#target.mode === 'autocommit'
  }

  /** @param name SAVEPOINT without BEGIN */
  #begin (caller: Caller, modes: TransactionModes, name: string | null = null): Promise<void> {
    const target = this.#target
    const session = isEngine(target) ? target.session({ ...modes, mode: 'transaction' }) : target
    const libraries = librarySession(session)
    if (libraries === null) throw notSession()
    const previous = this.#transaction
    this.#modes = modes
    const transaction = this.#transaction = newTransaction(libraries, isEngine(target), caller)
    const begun = transaction.begin(caller, isEngine(target) ? {} : modes, previous, name)
    begun.catch(() => {
      // The previous one goes on: its COMMIT was rejected.
      const goesOn = previous?.isOver === false && !previous.isLeaving
      if (goesOn && this.#transaction === transaction) this.#transaction = previous
    })
    return begun
  }

  #inTransaction (open: ClientTransaction | null): ClientTransaction {
    if (open !== null) return open
    const error = needsBegin()
    this.fail(error)
    throw error
  }

  /** A call was rejected: a session fails with it. */
  fail (error: Error): void {
    if (!isEngine(this.#target)) librarySession(this.#target)?.invalid(error)
  }

  /** Rolls back what the client has left open. */
  leave (): Promise<void> {
    const current = this.#current
    if (current === null) return Promise.resolve()
    if (current.isLeaving) return current.runAfter({}, async () => {})
    return current.rollback(new ObservedPromise<void>(noop))
  }
}

function newTransaction (libraries: ForLibraries, isWhole: boolean, caller: Caller): ClientTransaction {
  try {
    return libraries.transaction(isWhole)
  } catch (error) {
    // What continues after the end of its session need not handle it: see rejected.ts.
    caller.silence()
    throw error
  }
}

async function inOrder (results: readonly Promise<any>[]): Promise<any[]> {
  const all: any[] = []
  for (const result of results) all.push(await result)
  return all.flat()
}

function withModes (modes: TransactionModes, set: TransactionModes): TransactionModes {
  return {
    isolation: set.isolation ?? modes.isolation,
    readOnly: set.readOnly ?? modes.readOnly,
    deferrable: set.deferrable ?? modes.deferrable
  }
}

function done (command: string): QueryResult {
  return resultOf(command, newResult)
}

function needsBegin (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'SAVEPOINT, RELEASE, ROLLBACK TO and AND CHAIN need a ' +
    'transaction: send BEGIN first.')
}

function notSession (): Error {
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'BEGIN needs a session of the plugin, such as `request.db`, and ' +
    'this client runs on an object that stands for one.')
}
