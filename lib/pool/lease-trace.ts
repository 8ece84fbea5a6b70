import type { EngineIdentity, LeaseEvent } from '../../types/telemetry.ts'
import { leaseChannel } from '../telemetry/channels.ts'
import { Operation, OperationEvent } from '../telemetry/operation.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** Publishes that a connection is in use. Null without subscribers. */
export function traceLease (engine: EngineIdentity, label: RequestLabel | undefined): Operation<LeaseEvent> | null {
  if (!leaseChannel.hasSubscribers) return null
  return new Operation(leaseChannel, new OperationEvent(engine, label))
}
