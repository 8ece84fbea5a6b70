import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { eq, sql } from 'drizzle-orm'
import { drizzleOf } from 'fastify-pg-scope/drizzle'
import { Type } from 'typebox'
import { SameAccount, UnknownAccount } from '../plugins/errors.ts'
import { Amount, Id, Problem } from '../schemas.ts'
import * as tables from '../tables.ts'

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
    const db = drizzleOf(request.db)
    const { id, balance } = tables.accounts
    // In the order of their ids: two transfers in opposite directions wait for each other and never deadlock.
    const locked = await db.select({ id }).from(tables.accounts)
      .where(sql`${id} in (${bigint(from)}, ${bigint(to)})`).orderBy(id).for('no key update')
    if (locked.length < 2) throw new UnknownAccount()
    // One round trip. A balance that does not suffice is refused by the table's CHECK, and the request rolls back.
    const [, , [transfer]] = await Promise.all([
      db.update(tables.accounts).set({ balance: sql`${balance} - ${bigint(amount)}` }).where(eq(id, from)),
      db.update(tables.accounts).set({ balance: sql`${balance} + ${bigint(amount)}` }).where(eq(id, to)),
      db.insert(tables.transfers).values({ sender: from, receiver: to, amount }).returning()
    ])
    return reply.code(201).send({ id: transfer!.id })
  })
}

export default transfers
