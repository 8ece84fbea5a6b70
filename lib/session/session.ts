import { noFunction, pgScopeError } from '../errors.ts'
import type { RowStream, Session, StreamOptions } from '../../types/session.ts'
import { enterWorkOf } from '../pool/holder.ts'
import { type ManagedSession, type Outcome, sessionClosed, type SessionHost } from './managed-session.ts'
import { Nesting } from './nesting.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { type Savepoint, Savepoints } from './savepoint.ts'
import type { Beginning, Settings } from './settings.ts'
import { Progress } from './states.ts'
import { rejected } from './rejected.ts'
import { readStatement, type Statement } from './statement.ts'
import { CursorStream } from './stream.ts'
import { Transaction } from './transaction.ts'

const noop = (): void => {}

/** One unit of work: begins by its first statement, and holds a connection only from there to COMMIT or ROLLBACK. */
export class ScopedSession implements ManagedSession {
  listedAt = -1
  forced: ManagedSession['forced']
  readonly requestOf: object | null
  readonly #host: SessionHost
  readonly #beginning: Beginning
  /** Settings that depend on the request: worked out when a transaction begins. */
  #extra: (() => Settings) | undefined
  readonly #label: string | undefined
  readonly #progress = new Progress()
  readonly #savepoints = new Savepoints()
  readonly #hooks: OutcomeHooks
  /** Made by the first. */
  #streams: Set<CursorStream> | null = null
  #nesting: Nesting | null = null
  #transaction: Transaction | null = null
  /** Why nothing may be committed, or null. */
  #rollbackOnly: string | null = null
  /** commit() or rollback() by hand, under way. */
  #settling: Promise<unknown> | null = null
  /** The end, once it has begun: it happens once, whoever asks. */
  #end: Promise<void> | null = null
  /** What the end makes of the work. */
  #outcome: Outcome | null = null
  /** Failures of transaction(fn) that came while only the end waited for them; null before it. */
  #strays: unknown[] | null = null
  /** What late statements are told. */
  #reason: Error | undefined
  #controller: AbortController | null = null

  constructor (host: SessionHost, beginning: Beginning, extra?: () => Settings, label?: string, requestOf: object | null = null) {
    this.#label = label
    this.requestOf = requestOf
    this.#host = host
    this.#beginning = beginning
    this.#extra = extra
    this.#hooks = new OutcomeHooks(host)
  }

  get state (): Session['state'] {
    return this.#progress.state
  }

  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#end !== null) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  get since (): number | null {
    return this.#transaction?.since ?? null
  }

  get over (): boolean {
    return this.#progress.state === 'closed'
  }

  get losesNothing (): boolean {
    return this.#beginning.losesNothing
  }

  get failure (): Error | null {
    return this.#progress.state === 'failed' ? this.#transaction!.refusal() : null
  }

  get rollbackOnly (): boolean {
    return this.#rollbackOnly !== null
  }

  get streaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  get unused (): boolean {
    return this.#progress.state === 'idle' && this.#savepoints.clear && this.#settling === null
  }

  query (text: unknown, values?: readonly unknown[]): Promise<any> {
    try {
      const call = readStatement(text, values)
      this.#host.vet(call.text)
      if (!this.#takes) throw this.#closed()
      if (this.#savepoints.clear) this.#submit([call])
      else this.#savepoints.inTurn(() => this.#submit([call]))
      return call.promise
    } catch (error) {
      return rejected(error)
    }
  }

  stream<R = any> (text: string, values?: readonly unknown[], options?: StreamOptions): RowStream<R> {
    this.#streams ??= new Set()
    return new CursorStream(this, this.#streams, text, values, options) as RowStream<R>
  }

  vet (text: string): void {
    this.#host.vet(text)
  }

  open (declare: (savepoint: Savepoint | null) => Statement[]): void {
    if (!this.#takes) return this.#refuse(declare(null))
    this.#savepoints.inTurn(() => {
      const statements = declare(this.#savepoints.top)
      if (statements.length > 0) this.#submit(statements)
    })
  }

  /** They belong to the cursor, whoever's turn it is. */
  fetch (statements: Statement[]): void {
    if (this.#takes && this.#transaction?.over === false) this.#submit(statements)
    else this.#refuse(statements)
  }

  async recovery (): Promise<boolean> {
    if (this.failure !== null && !await this.#savepoints.inner()) return false
    return this.#takes && this.failure === null && this.#transaction?.over === false
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    if (typeof fn !== 'function') return rejected(noFunction('transaction', fn))
    if (!this.#takes) return rejected(this.#closed())
    // Most sessions have none.
    this.#nesting ??= new Nesting({
      session: this,
      savepoints: this.#savepoints,
      hooks: this.#hooks,
      streams: () => this.#streams ?? [],
      transaction: () => this.#transaction,
      failure: () => this.failure,
      gone: () => this.#gone,
      ending: () => this.#end !== null,
      closed: () => this.#closed(),
      strays: () => this.#strays
    })
    return this.#nesting.run(fn)
  }

  commit (): Promise<void> {
    return this.#byHand('commit', async () => {
      if (this.#rollbackOnly !== null) throw pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', `commit() was called after setRollbackOnly()${this.#rollbackOnly && ` (${this.#rollbackOnly})`}.`)
      await this.#commit('idle')
    })
  }

  rollback (): Promise<void> {
    return this.#byHand('rollback', () => this.#rollback('idle'))
  }

  setRollbackOnly (reason = ''): void {
    this.#rollbackOnly ??= reason
  }

  afterCommit (fn: () => unknown): void {
    this.#register('afterCommit', fn)
  }

  afterRollback (fn: () => unknown): void {
    this.#register('afterRollback', fn)
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    if (this.#end !== null) {
      if (outcome === 'rollback' && this.#undecided) this.#overrule(reason)
      // What was rolled back must not look committed to somebody who comes later.
      return outcome === 'commit' && this.#outcome === 'rollback' && !this.rollbackOnly ? this.#end.then(() => { throw this.#closed() }) : this.#end
    }
    this.#reason = reason
    this.#outcome = this.rollbackOnly ? 'rollback' : outcome
    if (this.#outcome === 'commit' && this.#ready) this.#end = this.#commitAtOnce()
    else {
      this.#end = this.#finish(this.#outcome)
      // Whoever waits for it hears of its failure; not everybody waits.
      this.#end.catch(noop)
    }
    return this.#end
  }

  /** Nothing is open inside of it, nothing waits, and nobody for an answer. */
  get #ready (): boolean {
    return this.#progress.state === 'active' && this.#savepoints.clear && this.#settling === null && !this.streaming && this.#transaction!.answered
  }

  /** The end of nearly every session, in as few promises as there can be: #finish() comes to the same. */
  #commitAtOnce (): Promise<void> {
    return this.#transaction!.commit().then(() => {
      this.#left('closed')
      this.#hooks.committed()
      this.#over()
    }, (error) => {
      this.#left('closed')
      this.#hooks.rolledBack()
      this.#over()
      throw error
    })
  }

  #over (): void {
    this.#savepoints.abandon()
    this.#controller?.abort(this.#reason)
    // It is bound to the request, which may go before the session does.
    this.#extra = undefined
    this.#host.ended(this)
  }

  /** The end is to be COMMIT, and waits for what is still under way: it can be thought better of. */
  get #undecided (): boolean {
    return this.#outcome === 'commit' && this.#progress.state !== 'settling' && this.#progress.state !== 'closed'
  }

  #overrule (reason?: Error): void {
    this.#outcome = 'rollback'
    this.#reason = reason
    this.#savepoints.abandon()
    if (this.#transaction?.over === false) this.#transaction.stop(this.#closed()).catch(noop)
  }

  close (): Promise<void> {
    return this.end('rollback')
  }

  [Symbol.asyncDispose] (): Promise<void> {
    return this.close()
  }

  /** Whether the caller may still ask for something: once the end has begun, only a transaction(fn) may that it waits for. */
  get #takes (): boolean {
    return this.#end === null || (this.#outcome === 'commit' && this.#savepoints.entered)
  }

  /** Whoever's turn comes now comes too late. */
  get #gone (): boolean {
    return this.#outcome === 'rollback' || this.#progress.state === 'closed'
  }

  #submit (statements: Statement[]): void {
    if (this.#gone) return this.#refuse(statements)
    if (this.#transaction === null || this.#transaction.over) {
      let extra: Settings | undefined
      let failure: Error | null = null
      try {
        extra = this.#extra?.()
      } catch (error) { // the user's settings(request) or role(request)
        failure = error as Error
      }
      this.#transaction = new Transaction(this.#host, this.#progress, this.#beginning, extra, this, this.#label)
      if (failure !== null) return this.#transaction.refuseAll(failure, statements)
      // What a handler does from here on happens inside of its session; whoever opens one by hand may have several side by side.
      if (this.requestOf !== null) enterWorkOf(this)
    }
    this.#transaction.submit(this.#savepoints.clear ? statements : [...this.#savepoints.ahead(this.#transaction), ...statements])
  }

  #refuse (statements: Statement[]): void {
    for (const statement of statements) statement.fail(this.#closed())
  }

  /** commit() and rollback(): what is called behind them waits, and belongs to the next transaction. */
  #byHand (name: string, settle: () => Promise<void>): Promise<void> {
    if (this.#savepoints.entered) return rejected(pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${name}() was called inside of transaction(fn), whose savepoint would be lost. Let fn resolve or throw instead.`))
    if (this.#end !== null) return rejected(this.#closed())
    return new Promise((resolve, reject) => this.#savepoints.inTurn(() => {
      if (this.#gone) return reject(this.#closed())
      const turn = this.#savepoints.hold()
      const settled = settle()
      this.#settling = settled.catch(noop).then(() => {
        this.#settling = null
        this.#savepoints.leave(turn)
      })
      settled.then(resolve, reject)
    }))
  }

  async #commit (next: 'idle' | 'closed'): Promise<void> {
    const transaction = this.#transaction
    this.#closeStreams()
    if (transaction?.answered === false) await transaction.settled()
    if (transaction === null || transaction.over) {
      if (this.#progress.state !== next) this.#progress.to(next)
      return this.#hooks.committed()
    }
    if (this.failure !== null) {
      const failure = this.failure
      if (next === 'closed') await this.#rollback(next, () => this.#closed())
      throw failure
    }
    try {
      await transaction.commit()
    } catch (error) {
      this.#left(next)
      this.#hooks.rolledBack()
      throw error
    }
    this.#left(next)
    this.#hooks.committed()
  }

  async #rollback (next: 'idle' | 'closed', reason?: () => Error): Promise<void> {
    const transaction = this.#transaction
    this.#closeStreams()
    if (transaction !== null && reason === undefined) await transaction.settled()
    if (transaction === null || transaction.over) {
      if (this.#progress.state !== next) this.#progress.to(next)
    } else {
      await transaction.rollback(reason)
      this.#left(next)
    }
    this.#hooks.rolledBack()
  }

  #left (next: 'idle' | 'closed'): void {
    this.#transaction = null
    this.#progress.to(next)
  }

  async #finish (outcome: Outcome): Promise<void> {
    try {
      if (outcome === 'commit') {
        this.#strays = []
        if (!this.#savepoints.clear) await this.#savepoints.innermost(null)
        if (this.#strays.length > 0 || this.#gone) {
          await this.#rollback('closed', () => this.#closed())
          throw this.#strays[0] ?? this.#closed()
        }
        await this.#commit('closed')
      } else {
        if (this.#settling !== null) {
          // It may still wait for a statement that runs.
          if (this.#progress.state !== 'settling') await this.#transaction?.stop(this.#closed())
          await this.#settling
        }
        await this.#rollback('closed', () => this.#closed())
      }
    } finally {
      this.#over()
    }
  }

  #closeStreams (): void {
    for (const stream of this.#streams ?? []) stream.gone(this.#closed())
  }

  #register (name: 'afterCommit' | 'afterRollback', fn: () => unknown): void {
    if (typeof fn !== 'function') throw noFunction(name, fn)
    if (this.#end !== null) throw this.#closed()
    this.#hooks[name](fn, this.#savepoints.callers())
  }

  #closed (): Error {
    return this.#reason ?? sessionClosed()
  }
}
