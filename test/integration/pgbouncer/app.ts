import Fastify, { type FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../lib/index.ts'

export interface LogLine {
  level: number
  msg: string
  pooler?: unknown
  before?: unknown
}

export interface TestApp {
  app: FastifyInstance
  log: LogLine[]
  db: FastifyInstance['db']
  /** Of `app`, which listens from the first call on. */
  listen (): Promise<number>
}

/** An app that is closed when `t` ends, and what it logs. */
export async function startApp (t: Test, options: PgScopeOptions): Promise<TestApp> {
  const log: LogLine[] = []
  const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line)) } } } }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, { ...options, pool: { acquireTimeout: 30000, ...options.pool } })
  return {
    app,
    log,
    db: app.db,
    listen: async () => {
      await app.listen({ port: 0, host: '127.0.0.1' })
      return (app.server.address() as AddressInfo).port
    }
  }
}
