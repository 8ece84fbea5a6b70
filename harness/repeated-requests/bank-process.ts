// The bank, as a process that may be killed at any moment. Its settings come from the environment.
import Fastify from 'fastify'
import pgScope from '../../lib/index.ts'

const app = Fastify()
await app.register(pgScope, {
  connectionString: process.env.BANK_URL!,
  startupCheck: false,
  resolveCommits: true,
  answerTimeout: 3000,
  pool: { max: 4, acquireTimeout: 2000 }
})

interface Transfer { id: string, from: number, to: number, amount: number }

app.post<{ Body: Transfer }>('/transfers', {
  config: { db: { isolation: 'serializable', retry: 5, idempotency: { required: true, wait: 2000 } } }
}, async ({ db, body: { id, from, to, amount } }, reply) => {
  const { rows: [account] } = await db.query<{ balance: number }>('SELECT balance FROM account WHERE id = $1', [from])
  await db.query('INSERT INTO ledger (transfer) VALUES ($1)', [id])
  await db.query('UPDATE account SET balance = $1 WHERE id = $2', [account!.balance - amount, from])
  await db.query('UPDATE account SET balance = balance + $1 WHERE id = $2', [amount, to])
  return reply.code(201).send({ id, answer: crypto.randomUUID() })
})

await app.listen({ host: '127.0.0.1', port: Number(process.env.BANK_PORT) })
process.send?.('listening')
