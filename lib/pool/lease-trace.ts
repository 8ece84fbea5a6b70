import type { EngineIdentity, LeaseEvent } from '../../types/telemetry.ts'
import { leaseChannel } from '../telemetry/channels.ts'
import { Operation } from '../telemetry/operation.ts'

/** Publishes that a connection is in use. Null without subscribers. */
export function traceLease (engine: EngineIdentity, route: string | undefined): Operation<LeaseEvent> | null {
  if (!leaseChannel.hasSubscribers) return null
  return new Operation(leaseChannel, { engine, route, startTime: performance.now() })
}
