import { isPgScopeError } from '../errors.ts'
import type { EngineIdentity, SettleEvent } from '../../types/telemetry.ts'
import { settleChannel } from '../telemetry/channels.ts'
import { Operation, OperationEvent } from '../telemetry/operation.ts'
import type { Outcome } from './managed-session.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

class End extends OperationEvent implements SettleEvent {
  readonly wanted: Outcome
  outcome?: NonNullable<SettleEvent['outcome']> = undefined

  constructor (engine: EngineIdentity, label: RequestLabel | undefined, wanted: Outcome) {
    super(engine, label)
    this.wanted = wanted
  }
}

/** Publishes the end of a session. @param end begins it @returns the promise of the end */
export function traceSettle (
  engine: EngineIdentity, label: RequestLabel | undefined, wanted: Outcome, end: () => Promise<void>
): Promise<void> {
  const operation = new Operation(settleChannel, new End(engine, label, wanted))
  const { event } = operation
  const ended = end()
  ended.then(() => {
    event.outcome = wanted === 'commit' ? 'committed' : 'rolledBack'
    operation.succeed()
  }, (error: unknown) => {
    const isUnknown = isPgScopeError(error) && error.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
    event.outcome = isUnknown ? 'unknown' : 'rolledBack'
    operation.fail(error)
  })
  return ended
}
