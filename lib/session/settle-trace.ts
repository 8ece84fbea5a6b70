import { isPgScopeError } from '../errors.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import { settleChannel } from '../telemetry/channels.ts'
import { Operation } from '../telemetry/operation.ts'
import type { Outcome } from './managed-session.ts'

/** Publishes the end of a session. @param end begins it @returns the promise of the end */
export function traceSettle (
  engine: EngineIdentity, route: string | undefined, wanted: Outcome, end: () => Promise<void>
): Promise<void> {
  const operation = new Operation(settleChannel, { engine, route, startTime: performance.now(), wanted })
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
