import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { UnknownAccount } from '../plugins/errors.ts'
import { Balance, Id, OpeningBalance, Owner, Problem } from '../schemas.ts'

const Account = Type.Object({ id: Id, owner: Type.String(), balance: Balance })

/** pg gives a bigint as a string; the table keeps balances small enough for a number. */
const toAccount = ({ id, owner, balance }: { id: number, owner: string, balance: string }): Static<typeof Account> =>
  ({ id, owner, balance: Number(balance) })

const accounts: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/accounts', {
    schema: {
      body: Type.Object({ owner: Owner, balance: OpeningBalance }, { additionalProperties: false }),
      response: { 201: Account, '4xx': Problem }
    }
  }, async (request, reply) => {
    const { owner, balance } = request.body
    const { rows } = await request.db.query('insert into accounts (owner, balance) values ($1, $2) returning id, owner, balance', [owner, balance])
    return reply.code(201).send(toAccount(rows[0]))
  })

  // As many digits as every id has, and few enough for a bigint: anything else is no account, and so a 404 as well.
  app.get('/accounts/:id(^[0-9]{1,10}$)', {
    config: { db: { readOnly: true } },
    schema: {
      params: Type.Object({ id: Type.String() }),
      response: { 200: Account, '4xx': Problem }
    }
  }, async (request) => {
    const { rows } = await request.db.query('select id, owner, balance from accounts where id = $1::bigint', [request.params.id])
    if (rows.length === 0) throw new UnknownAccount()
    return toAccount(rows[0])
  })
}

export default accounts
