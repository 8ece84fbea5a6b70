import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { sql } from 'drizzle-orm'
import { drizzleOf } from 'fastify-pg-scope/drizzle'
import { transfers } from '../tables.ts'

const ledger: FastifyPluginAsyncTypebox = async (app) => {
  /** NDJSON: a line for each transfer, in constant memory, however many there are. */
  app.get('/ledger', {
    // HEAD would read all of it to answer nothing.
    exposeHeadRoute: false,
    config: { db: { readOnly: true } }
  }, async (request) => {
    const { id, sender, receiver, amount, at } = transfers
    const query = drizzleOf(request.db)
      .select({ id, from: sql`${sender}`.as('from'), to: sql`${receiver}`.as('to'), amount, at })
      .from(transfers).orderBy(id).toSQL()
    return request.db.stream(query.sql, query.params)
  })
}

export default ledger
