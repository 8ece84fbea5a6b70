import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import pgScope, { type PgScopeOptions } from './plugin.ts'

export interface LoggedAppOptions {
  plugin?: PgScopeOptions
  fastify?: FastifyServerOptions
  /** Default true: the plugin is registered. */
  register?: boolean
}

/** An app whose log can be read, with the plugin on a server. */
export interface LoggedApp<Line> {
  app: FastifyInstance
  log: Line[]
  /** What the plugin is registered with, for tests that do it themselves. */
  plugin: PgScopeOptions
  /** @returns the port */
  listen (): Promise<number>
}

export async function openLoggedApp<Line> (
  connectionString: string, { plugin: options = {}, fastify = {}, register = true }: LoggedAppOptions
): Promise<LoggedApp<Line>> {
  const log: Line[] = []
  const stream = { write: (line: string) => { log.push(JSON.parse(line)) } }
  const app = Fastify({ logger: { level: 'info', stream }, ...fastify }) as unknown as FastifyInstance
  const plugin = { connectionString, closeTimeout: 3000, ...options }
  if (register) await app.register(pgScope, plugin)
  return {
    app,
    log,
    plugin,
    async listen () {
      await app.listen({ port: 0, host: '127.0.0.1' })
      return (app.server.address() as AddressInfo).port
    }
  }
}
