import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { kyselyOf } from 'fastify-pg-scope/kysely'
import { type Selectable, sql } from 'kysely'
import { type Static, Type } from 'typebox'
import { UnknownAccount } from '../plugins/errors.ts'
import { Balance, Id, OpeningBalance, Owner, Problem } from '../schemas.ts'
import type { Tables } from '../tables.ts'

const Account = Type.Object({ id: Id, owner: Type.String(), balance: Balance })

/** pg gives a bigint as a string; the table keeps balances small enough for a number. */
const toAccount = ({ id, owner, balance }: Selectable<Tables['accounts']>): Static<typeof Account> =>
  ({ id, owner, balance: Number(balance) })

const accounts: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/accounts', {
    schema: {
      body: Type.Object({ owner: Owner, balance: OpeningBalance }, { additionalProperties: false }),
      response: { 201: Account, '4xx': Problem }
    }
  }, async (request, reply) => {
    const { owner, balance } = request.body
    const account = await kyselyOf<Tables>(request.db)
      .insertInto('accounts').values({ owner, balance }).returningAll().executeTakeFirstOrThrow()
    return reply.code(201).send(toAccount(account))
  })

  // As many digits as every id has, and few enough for a bigint: anything else is no account, and so a 404 as well.
  app.get('/accounts/:id(^[0-9]{1,10}$)', {
    config: { db: { readOnly: true } },
    schema: {
      params: Type.Object({ id: Type.String() }),
      response: { 200: Account, '4xx': Problem }
    }
  }, async (request) => {
    const account = await kyselyOf<Tables>(request.db)
      .selectFrom('accounts').selectAll()
      .where('id', '=', sql<number>`${request.params.id}::bigint`)
      .executeTakeFirst()
    if (account === undefined) throw new UnknownAccount()
    return toAccount(account)
  })
}

export default accounts
