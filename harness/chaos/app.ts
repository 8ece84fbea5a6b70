// The bank in a process of its own, so that it can be killed. Its address and port come as JSON.
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyRequest } from 'fastify'
import pgScope from '../../lib/index.ts'
import type { Stats } from '../../types/engine.ts'
import { astray } from '../reliability/astray.ts'

export interface Health {
  stats: Stats
  /** File descriptors: sockets among them. */
  descriptors: number
  /** Bytes after a collection. */
  heap: number
  /** Of Node.js, among them that of too many listeners. */
  warnings: string[]
  /** Errors that nothing caught. */
  astray: string[]
}

interface Accounts {
  from: number
  to: number
}

interface Transfer {
  Params: { id: string }
}

const { connectionString, port } = JSON.parse(process.argv[2]!) as { connectionString: string, port: number }
const warnings: string[] = []
process.on('warning', (warning) => { if (warning.name !== 'ExperimentalWarning') warnings.push(String(warning)) })

const app = Fastify({ forceCloseConnections: true })
await app.register(pgScope, {
  connectionString,
  resolveCommits: true,
  startupCheck: false,
  statementTimeout: 3000,
  answerTimeout: 2000,
  idleInTransactionTimeout: 3000,
  closeTimeout: 500,
  pool: { max: 8, acquireTimeout: 3000 }
})

async function transfer ({ params: { id }, body, query, db }: FastifyRequest<Transfer>): Promise<object> {
  const { from, to } = (body ?? query) as Accounts
  await db.query('INSERT INTO ledger VALUES ($1, $2, $3)', [id, from, to])
  await db.query('UPDATE accounts SET balance = balance - 1 WHERE id = $1', [from])
  await db.query('UPDATE accounts SET balance = balance + 1 WHERE id = $1', [to])
  return { id }
}

app.post<Transfer>('/plain/:id', transfer)
app.post<Transfer>('/retrying/:id', { config: { db: { isolation: 'serializable', retry: 5 } } }, transfer)
app.post<Transfer>('/idempotent/:id', { config: { db: { idempotency: { required: true }, retry: 3 } } }, transfer)
app.post<Transfer>('/statement-timeout/:id', { config: { db: { statementTimeout: 20 } } }, async (request) => {
  await transfer(request)
  await request.db.query('SELECT pg_sleep(1)')
})
// Fastify forgets this limit as soon as it has read a body.
app.get<Transfer>('/handler-timeout/:id', { handlerTimeout: 100 }, async (request) => {
  await transfer(request)
  await request.db.query('SELECT pg_sleep(1)')
})
app.get('/accounts', { config: { db: { readOnly: true } } }, async ({ db }) =>
  (await db.query('SELECT sum(balance)::int AS sum FROM accounts')).rows[0])
app.get('/rows', async ({ db }) => db.stream('SELECT n FROM generate_series(1, 500) AS n', [], { batchSize: 100 }))
app.get('/health', async (): Promise<Health> => {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await sleep(5)
  }
  return {
    stats: app.db.stats(),
    descriptors: readdirSync('/proc/self/fd').length,
    heap: process.memoryUsage().heapUsed,
    warnings,
    astray: astray.map(String)
  }
})
process.on('SIGTERM', () => { app.close().then(() => process.exit(0)) })
await app.listen({ port, host: '127.0.0.1' })
process.send?.('listening')
