import type { CallConfig, Caller, ClientTransaction as LibraryTransaction } from '../../library-session.ts'
import { ObservedPromise } from '../../observed-promise.ts'
import type { TransactionModes } from '../../transaction-modes.ts'
import type { Session, SessionState } from '../../../types/session.ts'
import type { Place } from './call-place.ts'
import { ClientContext } from './client-context.ts'
import {
  calledInFn, lostError, rolledBackBefore, rolledBackWithAnother, undoneBeside, unfinishedError
} from './client-errors.ts'
import { modeSetter } from './client-modes.ts'
import { ClientSavepoints } from './client-savepoints.ts'
import { ClientTurns, type Home } from './client-turns.ts'
import type { OwnSession } from './own-session.ts'
import { rejected } from '../rejected.ts'
import { Savepoint } from '../savepoint.ts'
import { releaseSavepoint, reportUnlessAwaited, type SavepointHost, undoSavepoint } from '../savepoint-ends.ts'

const noop = (): void => {}

/**
 * A transaction that a client of pg has begun: a savepoint on the stack of its session, whose calls come from the
 * client, not from within a function.
 *
 *     BEGIN ─► open, in turn ─► calls of the client ─► COMMIT or ROLLBACK, in turn ─► over
 *                                   └ wait while a later transaction of a client is open (client-turns.ts)
 *
 * All other code that uses the session meanwhile is part of the innermost transaction: it may be inside of it. ROLLBACK
 * does not wait: it ends later transactions, whose clients learn it from their next call.
 */
export class ClientTransaction extends Savepoint implements LibraryTransaction {
  override readonly isClients = true
  readonly #host: SavepointHost
  readonly #own: OwnSession | null
  readonly home: Home | null
  /** BEGIN has had its turn. */
  isOpen = false
  /** It was begun in this turn of the event loop, so nothing can have been called inside of it. */
  #isBeginning = false
  /** COMMIT or ROLLBACK is in progress: nothing else ends it. */
  #isEnding = false
  #isRolledBack = false
  #lost: Error | null = null
  readonly #turns: ClientTurns
  readonly #savepoints: ClientSavepoints
  /** Observed when its client has left it: otherwise it fails what is around it. */
  readonly #left = new ObservedPromise<void>(noop)
  readonly #context = new ClientContext()

  constructor (host: SavepointHost, own: OwnSession | null, home: Home | null) {
    super(host.savepoints, own === null)
    this.#host = host
    this.#own = own
    this.home = home
    this.#turns = new ClientTurns(this, host)
    this.#savepoints = new ClientSavepoints(host, this.#turns)
  }

  get isOver (): boolean {
    return this.#context.isOver || this.#host.tooLateError() !== null
  }

  get isLeaving (): boolean {
    return this.#left.observed
  }

  get isLost (): boolean {
    return !this.isLeaving && this.#lost !== null && (this.#own !== null || this.#host.tooLateError() === null)
  }

  /** Another transaction that begins now is inside of it, or beside it and cannot be told from one. */
  get mayEnclose (): boolean {
    return !this.#isBeginning && !this.isLeaving
  }

  get isInnermost (): boolean {
    return this.isEnded || this.#host.savepoints.client === this
  }

  get state (): SessionState {
    return this.#host.session.state
  }

  /** Why its calls are rejected, or null. */
  get gone (): Error | null {
    return this.#lost ?? this.#host.tooLateError() ?? (this.#isRolledBack ? rolledBackBefore() : null)
  }

  begin (
    caller: Caller, modes: TransactionModes, previous: LibraryTransaction | null, name: string | null
  ): Promise<void> {
    const before = previous as ClientTransaction | null
    if (before !== null) before.#leave()
    this.#context.enter()
    this.hooks = this.#host.hooks.count
    return new Promise((resolve, reject) => {
      const refuse = (error: Error): void => reject(this.#notBegun(caller, error))
      const tooLate = this.#turns.failing(refuse, this.#turns.enclosing, caller)
      const start = (): void => {
        const error = this.gone ?? this.#host.failure()
        if (error !== null) return refuse(error)
        const other = this.#host.savepoints.client as ClientTransaction | null
        if (other?.mayEnclose === false) return other.#turns.precede(start, refuse, tooLate)
        resolve(this.#open(modes, name))
      }
      const inTurn = (): void => (this.#own?.whenFree ?? this.#turns.around)(start, refuse)
      if (before === null || before.isOver) inTurn()
      else before.#turns.follow(inTurn, refuse, tooLate)
    })
  }

  /** BEGIN is rejected, and so are the calls that wait for it. */
  #notBegun (caller: Caller, error: Error): Error {
    const own = this.#own
    // A session that has other work, too, has recorded this failure already.
    if (own === null) queueMicrotask(() => caller.silence())
    else {
      own.report(caller, error)
      this.lose(error)
      own.session.end('rollback').catch(noop)
    }
    this.#finish()
    return error
  }

  /** @throws FST_PG_SCOPE_SESSION_STATE: the session has begun with other modes */
  async #open (modes: TransactionModes, name: string | null): Promise<void> {
    const { unawaited } = this.#host
    const set = modeSetter(this.#host, modes, this.#own === null)
    this.#savepoints.enter(this, name)
    this.isOpen = this.#isBeginning = true
    if (name === null && this.#own === null) (this.parent ?? { unawaited }).unawaited.add(this.#left, unfinishedError())
    this.#own?.began(this)
    const granted = set()
    granted.catch(noop)
    this.startWaiting()
    await new Promise<void>((resolve) => setImmediate(resolve))
    this.#isBeginning = false
    await granted
  }

  run<T> (call: (own: Session | null) => Promise<T>): Promise<T> {
    this.#context.called()
    if (this.#lost !== null) {
      this.refused(this.#lost)
      return rejected(this.#lost)
    }
    return this.#turns.callAt(this.#turns.inPlace, () => call(this.#own?.session ?? null))
  }

  runAfter<T> (config: CallConfig, call: (config: CallConfig) => Promise<T>): Promise<T> {
    return this.isOver ? call(config) : this.#turns.runAfter(this.#own, config, call)
  }

  set (modes: TransactionModes): Promise<void> {
    return this.#turns.make(() => modeSetter(this.#host, modes, this.#own === null)())
  }

  savepoint (name: string): Promise<void> {
    return this.#savepoints.open(name)
  }

  release (caller: Caller, name: string): Promise<void> {
    return this.#turns.change(this.#reporter(caller), this.#turns.inPlace, async () => {
      const savepoint = this.#savepoints.find(name)
      await (savepoint === this ? this.#commit() : this.#savepoints.release(savepoint))
    })
  }

  rollbackTo (caller: Caller, name: string, isText: boolean): Promise<void> {
    return this.#turns.change(this.#reporter(caller), this.#turns.inPlace, async () => {
      if (isText) await this.#checkText()
      await this.#savepoints.undo(this.#savepoints.find(name))
    })
  }

  commit (caller: Caller, isText: boolean): Promise<void> {
    const misuse = this.#misuse('COMMIT', caller)
    if (misuse !== null) return misuse
    this.#leave()
    const place: Place = (start, reject) => this.#turns.inPlace(start, (error) => {
      if (!this.isOver) this.#leave(false)
      reject?.(error)
    })
    return this.#turns.change(this.#reporter(caller), place, () => this.#commit(isText))
  }

  async #commit (isText = false): Promise<void> {
    const { savepoints } = this.#host
    if (!this.isOpen || this.isEnded) return
    if (isText) await this.#checkText()
    this.#isEnding = true
    try {
      savepoints.endOpen(this.unawaited, this)
      await releaseSavepoint(this.#host, this)
    } catch (error) {
      if (isText) this.#turns.rejectFollowing(error)
      await this.#undo(error)
      throw error
    }
    const around = this.client as ClientTransaction | null
    if (around !== null) this.#context.committedIn(around.#context)
    if (!this.isEnded) savepoints.leave(this)
    if (this.#own !== null) await this.#endOwn(this.#own, 'commit', isText)
  }

  /** @throws the failure of the text so far: its remaining commands do not run */
  async #checkText (): Promise<void> {
    const failure = await this.#turns.failureSoFar()
    if (failure === null) return
    this.#leave(false)
    this.#turns.rejectFollowing(failure)
    throw failure
  }

  rollback (caller: Caller, isText = false): Promise<void> {
    const misuse = this.#misuse('ROLLBACK', caller)
    if (misuse !== null) return misuse
    this.#leave()
    if (this.isOver || this.gone !== null) return Promise.resolve()
    const place = this.isOpen ? this.#turns.around : this.#turns.inPlace
    return this.#turns.change(this.#reporter(caller), place, async () => {
      if (!this.isOpen || this.isEnded) return
      if (isText) await this.#checkText()
      this.#isEnding = this.#isRolledBack = true
      this.#host.savepoints.endOpen(null, this, rolledBackWithAnother())
      await this.#undo()
    })
  }

  async #undo (error?: unknown): Promise<void> {
    if (!this.isEnded) await undoSavepoint(this.#host, this, error)
    const { undoesOthers } = this.#context
    if (undoesOthers) (this.parent ?? this.#host).unawaited.add(new ObservedPromise(noop), undoneBeside())
    if (!this.isEnded) this.#host.savepoints.leave(this)
    if (this.#own !== null) await this.#endOwn(this.#own, 'rollback')
  }

  async #endOwn (own: OwnSession, outcome: 'commit' | 'rollback', isText = false): Promise<void> {
    this.#host.savepoints.proceed()
    try {
      await this.#turns.end(isText, () => own.session.end(outcome))
    } finally {
      own.ended(() => this.#finish())
    }
  }

  /** A call of its client was rejected. */
  refused (error: Error): void {
    // Its client must leave it, or no success is sent.
    if (error === this.#lost) this.#host.unawaited.add(this.#left, error)
  }

  /** Its client ends it. @param leaves false: COMMIT was rejected before its turn */
  #leave (leaves = true): void {
    this.#left.observed = leaves
    this.#own?.leaving(leaves)
  }

  /** The error of a call that would wait for the transaction(fn) that it is made in, or null. */
  #misuse (call: string, caller: Caller): Promise<never> | null {
    if (!this.#turns.isCallerInFn) return null
    const error = calledInFn(call)
    this.#reporter(caller)(error)
    return Promise.reject(error)
  }

  /** Reports the failure of a command. */
  #reporter (caller: Caller): (error: unknown) => void {
    return (error) => {
      if (this.#own === null) reportUnlessAwaited(this.#host, this.#host.savepoints.top, caller, error)
      else this.#own.report(caller, error)
    }
  }

  override startWaiting (): void {
    this.#turns.startWaiting()
  }

  override rejectWaiting (error: Error): void {
    this.#turns.rejectWaiting(error)
  }

  /** @param reason why it is lost, if its own client has not ended it */
  override end (last: number, reason: Error | null = null): void {
    super.end(last)
    if (this.#isEnding) (this.parent ?? this.#host).unawaited.delete(this.#left)
    else this.lose(reason)
    if (this.#own === null) this.#finish()
  }

  lose (reason: Error | null = null): void {
    this.#lost = reason ?? lostError()
  }

  #finish (): void {
    if (this.#context.isOver) return
    this.#context.end()
    this.startWaiting()
  }
}
