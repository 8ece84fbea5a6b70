import Fastify from 'fastify'
import { connectionConfig } from '../../config/connection-config.ts'
import type { ResolvedOptions } from '../../config/options.ts'
import pgScope from '../../index.ts'
import { type EngineOptionsEvent, optionsChannel } from '../../options-channel.ts'
import type { PgScopeOptions } from '../../../types/options.ts'
import { UsageError } from '../usage-error.ts'
import { messageOf } from './ask.ts'
import { cannotRun } from './doctor-arguments.ts'

/** What the channel publishes while a function runs: the options of each engine that is created. */
export async function optionsDuring (run: () => Promise<void>): Promise<ResolvedOptions[]> {
  const found: ResolvedOptions[] = []
  const listen = (message: unknown): void => {
    const options = (message as EngineOptionsEvent).options as ResolvedOptions
    if (!found.includes(options)) found.push(options)
  }
  optionsChannel.subscribe(listen)
  try {
    await run()
  } finally {
    optionsChannel.unsubscribe(listen)
  }
  return found
}

/**
 * The plugin's options as it checks and completes them, from the environment where no connection is given.
 *
 * @throws UsageError for options that the plugin refuses
 */
export async function resolveByPlugin (given: PgScopeOptions): Promise<ResolvedOptions> {
  const app = Fastify()
  try {
    const [options] = await optionsDuring(async () => {
      await app.register(pgScope, { ...given, startupCheck: false })
    })
    return options!
  } catch (error) {
    throw new UsageError(messageOf(error), cannotRun)
  } finally {
    await app.close().catch(() => {})
  }
}

/** @throws UsageError */
export function adminConfig (url: string): ReturnType<typeof connectionConfig> {
  try {
    return connectionConfig(url, undefined, {})
  } catch (error) {
    throw new UsageError(messageOf(error).replaceAll('connectionString', '--admin'), cannotRun)
  }
}
