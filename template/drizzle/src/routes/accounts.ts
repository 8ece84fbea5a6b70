import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { eq, sql } from 'drizzle-orm'
import { drizzleOf } from 'fastify-pg-scope/drizzle'
import { Type } from 'typebox'
import { UnknownAccount } from '../plugins/errors.ts'
import { Balance, Id, OpeningBalance, Owner, Problem } from '../schemas.ts'
import * as tables from '../tables.ts'

const Account = Type.Object({ id: Id, owner: Type.String(), balance: Balance })

const accounts: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/accounts', {
    schema: {
      body: Type.Object({ owner: Owner, balance: OpeningBalance }, { additionalProperties: false }),
      response: { 201: Account, '4xx': Problem }
    }
  }, async (request, reply) => {
    const { owner, balance } = request.body
    const [account] = await drizzleOf(request.db).insert(tables.accounts).values({ owner, balance }).returning()
    return reply.code(201).send(account!)
  })

  // As many digits as every id has, and few enough for a bigint: anything else is no account, and so a 404 as well.
  app.get('/accounts/:id(^[0-9]{1,10}$)', {
    config: { db: { readOnly: true } },
    schema: {
      params: Type.Object({ id: Type.String() }),
      response: { 200: Account, '4xx': Problem }
    }
  }, async (request) => {
    const [account] = await drizzleOf(request.db)
      .select().from(tables.accounts).where(eq(tables.accounts.id, sql`${request.params.id}::bigint`))
    if (account === undefined) throw new UnknownAccount()
    return account
  })
}

export default accounts
