import type { ConnectEvent, EngineIdentity } from '../../../types/telemetry.ts'
import { connectChannel } from '../../telemetry/channels.ts'
import { Operation, OperationEvent } from '../../telemetry/operation.ts'

/** Publishes that a connection is being opened. Null without subscribers. */
export function traceConnect (engine: EngineIdentity): Operation<ConnectEvent> | null {
  if (!connectChannel.hasSubscribers) return null
  return new Operation(connectChannel, new OperationEvent(engine, undefined))
}
