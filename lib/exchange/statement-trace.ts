import type { EngineIdentity, SessionIdentity, StatementEvent } from '../../types/telemetry.ts'
import { statementChannel } from '../telemetry/channels.ts'
import type { InContext } from '../async-context.ts'
import { Operation, OperationEvent } from '../telemetry/operation.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** The part of a statement that telemetry needs. */
interface TracedStatement {
  readonly trace: StatementTrace | null
  /** A caller reads its rows. */
  readonly describes: boolean
  readonly prepared: object | null
}

/** The part of a pg Result that telemetry shows. */
interface Answer {
  readonly command: string | null
  readonly rowCount: number | null
}

/** A caller's statement on its tracing channel. */
export class StatementTrace extends Operation<StatementEvent> {
  /** It is written, with others or alone. */
  sent (batchSize: number): void {
    const { event } = this
    if (event.attempts++ === 0) event.waitTime = performance.now() - event.startTime
    event.batchSize = batchSize
  }

  answered ({ prepared }: TracedStatement, answer: Answer | undefined): void {
    const { event } = this
    event.prepared = prepared !== null
    if (answer !== undefined) {
      event.command = answer.command ?? ''
      event.rowCount = answer.rowCount
    }
    this.succeed()
  }
}

/** On what a statement is called. */
export interface TracedOn {
  readonly engine: EngineIdentity
  /** Undefined in mode 'autocommit'. */
  readonly session: SessionIdentity | undefined
  readonly label: RequestLabel | undefined
}

/** How a statement is called. */
export interface TracedCall extends TracedOn {
  readonly kind: StatementEvent['kind']
  readonly mode: StatementEvent['mode']
}

class CalledStatement extends OperationEvent implements StatementEvent {
  readonly session: SessionIdentity | undefined
  readonly text: string
  readonly name: string | undefined
  readonly kind: StatementEvent['kind']
  readonly mode: StatementEvent['mode']
  attempts = 0
  batchSize = 0
  prepared = false
  waitTime?: number = undefined
  command?: string = undefined
  rowCount?: number | null = undefined

  constructor (text: string, name: string | undefined, { engine, session, label, kind, mode }: TracedCall) {
    super(engine, label)
    this.session = session
    this.text = text
    this.name = name
    this.kind = kind
    this.mode = mode
  }
}

/** Publishes the start of a statement. To be called with subscribers only. */
export function traceStatement (
  text: string, name: string | undefined, call: TracedCall, inContext?: InContext | null
): StatementTrace {
  return new StatementTrace(statementChannel, new CalledStatement(text, name, call), inContext)
}

/** A batch is written that ends with a statement of a caller. */
export function traceSent (statements: readonly TracedStatement[]): void {
  const called = statements.filter(({ describes }) => describes)
  for (const { trace } of called) trace?.sent(called.length)
}
