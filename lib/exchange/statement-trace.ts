import type { EngineIdentity, StatementEvent } from '../../types/telemetry.ts'
import { statementChannel } from '../telemetry/channels.ts'
import { type InContext, Operation } from '../telemetry/operation.ts'

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

/** How a statement is called. */
export interface TracedCall {
  readonly engine: EngineIdentity
  /** Method and route of the request. */
  readonly route: string | undefined
  readonly kind: StatementEvent['kind']
  readonly mode: StatementEvent['mode']
}

/** Publishes the start of a statement. To be called with subscribers only. */
export function traceStatement (
  text: string, name: string | undefined, { engine, route, kind, mode }: TracedCall, inContext?: InContext
): StatementTrace {
  return new StatementTrace(statementChannel, {
    engine,
    route,
    startTime: performance.now(),
    text,
    name,
    kind,
    mode,
    attempts: 0,
    batchSize: 0,
    prepared: false
  }, inContext)
}

/** A batch is written that ends with a statement of a caller. */
export function traceSent (statements: readonly TracedStatement[]): void {
  const called = statements.filter(({ describes }) => describes)
  for (const { trace } of called) trace?.sent(called.length)
}
