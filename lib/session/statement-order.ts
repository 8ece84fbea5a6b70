import { type Call, InvalidCall } from '../exchange/call.ts'
import { readStatement } from '../exchange/read-statement.ts'
import type { Statement } from '../exchange/statement.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'
import { traceStatement } from '../exchange/statement-trace.ts'
import { statementChannel } from '../telemetry/channels.ts'
import type { EngineIdentity, SessionIdentity } from '../../types/telemetry.ts'
import { hasPlace } from './clients/call-place.ts'
import type { StreamSession } from './cursor-stream.ts'
import { LongWait } from './long-wait.ts'
import type { SessionHost } from './managed-session.ts'
import type { Savepoint } from './savepoint.ts'
import type { Savepoints } from './savepoints.ts'
import type { SessionTransactions } from './session-transactions.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** Whether a session accepts calls. */
export interface CallAcceptance extends SessionIdentity {
  /** Calls are accepted: after the end has begun, only inside a transaction(fn) that the end waits for. */
  readonly acceptsCalls: boolean
  /** Why a call is rejected when its turn comes, or null: the session rolls back or is closed. */
  tooLateError (): Error | null
  closedError (): Error
}

/** The order of a session's statements: each is sent when it is the turn of its call. */
export class StatementOrder implements StreamSession {
  readonly engine: EngineIdentity
  readonly session: CallAcceptance
  readonly label: RequestLabel | undefined
  readonly #host: SessionHost
  readonly #savepoints: Savepoints
  readonly #transactions: SessionTransactions
  /** Allocated lazily. */
  #longWait: LongWait | null = null

  constructor (
    session: CallAcceptance, host: SessionHost, savepoints: Savepoints, transactions: SessionTransactions,
    label: RequestLabel | undefined
  ) {
    this.engine = host.engineIdentity
    this.session = session
    this.label = label
    this.#host = host
    this.#savepoints = savepoints
    this.#transactions = transactions
  }

  /** Checks a call of query(), and makes a statement of it. @throws what is wrong with it */
  read (text: unknown, values: unknown): Call {
    const call = readStatement(text, values)
    this.vet(call)
    if (statementChannel.hasSubscribers) {
      const { engine, session, label } = this
      const how = { engine, session, label, kind: 'query', mode: 'transaction' } as const
      call.trace = traceStatement(call.text, call.name, how)
    }
    return call
  }

  add (statements: Statement[]): void {
    if (this.#savepoints.isEmpty && !hasPlace()) this.#submit(statements)
    else this.#inTurn(statements[0]!.text, () => this.#submit(statements), (error) => fail(statements, error))
  }

  /** Waits for a running transaction(fn), unless the connection is lost, because fn may await the call. */
  #inTurn (text: string, start: () => void, reject: (error: Error) => void): void {
    if (this.#transactions.isLost && !this.#savepoints.settles) return start()
    let waits = true
    let endWait: (() => void) | null = null
    const ended = (): void => {
      waits = false
      endWait?.()
    }
    this.#savepoints.inTurn(() => {
      ended()
      start()
    }, (error) => {
      ended()
      reject(error)
    })
    if (!waits) return
    this.#longWait ??= new LongWait((text) => this.#host.waitsLong(text, this.label))
    endWait = this.#longWait.begin(text)
  }

  #submit (statements: Statement[], isOutside = false): void {
    const late = this.session.tooLateError()
    if (late === null) this.#transactions.submit(statements, isOutside)
    else fail(statements, late)
  }

  /** Rejects the calls that wait for a transaction(fn), because the connection is lost. */
  connectionLost (): void {
    const { failure } = this.#transactions
    if (failure !== null) this.#savepoints.rejectWaiting(failure)
  }

  vet (call: Call): void {
    this.#host.vet(call)
  }

  invalid (error: unknown): void {
    if (this.session.acceptsCalls) this.add([new InvalidCall(error)])
  }

  /** A call is rejected in its turn. */
  fail (error: Error): void {
    this.#submit([new InvalidCall(error)])
  }

  /** Sends an internal statement, in turn. @param isOutside in front of the savepoints that were not sent yet */
  send (text: string, isOutside = false): Promise<unknown> {
    const call = this.read(text, undefined)
    this.#submit([call], isOutside)
    return call.promise
  }

  cancel (signal: StatementSignal): boolean {
    return this.#transactions.current?.cancel(signal) === true
  }

  open (text: string, declare: (savepoint: Savepoint | null) => Statement[]): void {
    this.#inTurn(text, () => {
      const statements = declare(this.#savepoints.top)
      if (statements.length > 0) this.#submit(statements)
    }, (error) => fail(declare(null), error))
  }

  /** Sent out of turn: FETCH and CLOSE belong to an open cursor. */
  fetch (statements: Statement[]): void {
    if (this.session.acceptsCalls && this.#transactions.open !== null) this.#submit(statements)
    else fail(statements, this.session.closedError())
  }

  async recovery (): Promise<boolean> {
    if (this.#transactions.failure !== null && !await this.#savepoints.othersEnded()) return false
    return this.session.acceptsCalls && this.#transactions.failure === null && this.#transactions.open !== null
  }
}

function fail (statements: readonly Statement[], error: Error): void {
  for (const statement of statements) statement.fail(error)
}
