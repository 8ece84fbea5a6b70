import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import pgScope, { type PgScopeOptions, type Session } from 'fastify-pg-scope'
import { publish, schema } from './outbox.ts'

export const accounts = `
  create table if not exists accounts (id int primary key, balance int not null check (balance >= 0));
  ${schema}`

/** @param onEvent is called in the transaction for each key that has a new event: for pg-boss */
export async function buildApp (
  database: PgScopeOptions, options: FastifyServerOptions = {},
  onEvent: (session: Session, key: string) => Promise<void> = async () => {}
): Promise<FastifyInstance> {
  const app = Fastify(options) as unknown as FastifyInstance
  await app.register(pgScope, database)

  interface Deposit { Params: { id: number }, Body: { amount: number } }
  app.post<Deposit>('/accounts/:id/deposits', async ({ db, params: { id }, body: { amount } }, reply) => {
    const { rows: [account] } = await db.query('update accounts set balance = balance + $1 where id = $2 returning balance', [amount, id])
    if (account === undefined) return reply.code(404).send({ error: 'no such account' })
    await publish(db, `account ${id}`, 'deposited', { amount, balance: account.balance })
    await onEvent(db, `account ${id}`)
    return reply.code(201).send(account)
  })

  return app
}
