// How `fastify-pg-scope doctor` learns the options of an app's engines, also of one that cannot reach its server.
import { channel } from 'node:diagnostics_channel'

export interface EngineOptionsEvent {
  /** The checked options with their defaults. They contain the password: nothing else subscribes to this channel. */
  readonly options: object
}

/** Published for each engine before it connects. Two copies of the package share the channel by its name. */
export const optionsChannel = channel('fastify-pg-scope:options')

export function publishOptions (options: object): void {
  if (optionsChannel.hasSubscribers) optionsChannel.publish({ options } satisfies EngineOptionsEvent)
}
