import { after, afterEach } from 'node:test'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { openSandbox } from 'fastify-pg-scope/testing'
import { buildApp } from '../../src/app.ts'

/**
 * The app as it runs, on a database of its own that is deleted at the end of the file. Nothing is replaced by a mock:
 * what the database refuses in production, it refuses here.
 *
 * @param env instead of the process's environment, so that a DATABASE_URL of yours is never touched
 */
export async function openBank (env: Record<string, string> = {}): Promise<FastifyInstance> {
  const app = buildApp({ env: { LOG_LEVEL: 'silent', ...env } })
  after(() => app.close())
  await app.ready()
  return app
}

/** The same for a file whose tests must not see each other's rows: what a test has saved is undone after it. */
export async function openSandboxedBank (): Promise<FastifyInstance> {
  const app = await openBank()
  const sandbox = await openSandbox(app)
  afterEach(() => sandbox.rollback())
  return app
}

export async function call (
  app: FastifyInstance, method: 'GET' | 'POST', url: string, payload?: InjectOptions['payload']
) {
  const response = await app.inject({ method, url, ...(payload === undefined ? {} : { payload }) })
  return { status: response.statusCode, body: response.json(), headers: response.headers }
}

/** Opens an account and returns its id. */
export async function openAccount (app: FastifyInstance, owner: string, balance: number): Promise<number> {
  const { body } = await call(app, 'POST', '/accounts', { owner, balance })
  return body.id
}

export async function balanceOf (app: FastifyInstance, id: number): Promise<number> {
  const { body } = await call(app, 'GET', `/accounts/${id}`)
  return body.balance
}

export interface Entry {
  id: number
  from: number
  to: number
  amount: number
  at: string
}

/** NDJSON: a line for each entry. */
export function readEntries (body: string): Entry[] {
  return body.split('\n').filter(line => line !== '').map(line => JSON.parse(line))
}
