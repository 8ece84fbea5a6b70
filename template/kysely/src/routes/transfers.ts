import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { kyselyOf } from 'fastify-pg-scope/kysely'
import { sql } from 'kysely'
import { Type } from 'typebox'
import { SameAccount, UnknownAccount } from '../plugins/errors.ts'
import { Amount, Id, Problem } from '../schemas.ts'
import type { Tables } from '../tables.ts'

/** An id that is too large for the column is an unknown account, not an error of the database. */
const bigint = (value: number) => sql<number>`${value}::bigint`

const transfers: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/transfers', {
    schema: {
      body: Type.Object({ from: Id, to: Id, amount: Amount }, { additionalProperties: false }),
      response: { 201: Type.Object({ id: Id }), '4xx': Problem }
    }
  }, async (request, reply) => {
    const { from, to, amount } = request.body
    if (from === to) throw new SameAccount()
    const db = kyselyOf<Tables>(request.db)
    // In the order of their ids: two transfers in opposite directions wait for each other and never deadlock.
    const locked = await db.selectFrom('accounts').select('id')
      .where('id', 'in', [bigint(from), bigint(to)]).orderBy('id').forNoKeyUpdate().execute()
    if (locked.length < 2) throw new UnknownAccount()
    // One round trip. A balance that does not suffice is refused by the table's CHECK, and the request rolls back.
    const [, , transfer] = await Promise.all([
      db.updateTable('accounts').set({ balance: sql`balance - ${bigint(amount)}` }).where('id', '=', from).execute(),
      db.updateTable('accounts').set({ balance: sql`balance + ${bigint(amount)}` }).where('id', '=', to).execute(),
      db.insertInto('transfers').values({ sender: from, receiver: to, amount }).returning('id').executeTakeFirstOrThrow()
    ])
    return reply.code(201).send({ id: transfer.id })
  })
}

export default transfers
