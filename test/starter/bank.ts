import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../examples/starter/src/app.ts'

/** The app of examples/starter on a database of its own, until the test ends. */
export async function openBank (
  t: { teardown (callback: () => unknown): unknown }, env: Record<string, string> = {}
): Promise<FastifyInstance> {
  const app = buildApp({ env: { LOG_LEVEL: 'silent', ...env } })
  t.teardown(() => app.close())
  await app.ready()
  return app
}

/** Opens an account and returns its id. */
export async function openAccount (app: FastifyInstance, owner: string, balance: number): Promise<number> {
  const response = await app.inject({ method: 'POST', url: '/accounts', payload: { owner, balance } })
  return response.json().id
}

export interface Entry {
  id: number
  from: number
  to: number
  amount: number
}

/** The ledger's lines. */
export function readEntries (body: string): Entry[] {
  return body.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line))
}
