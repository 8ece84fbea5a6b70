import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { kyselyOf } from 'fastify-pg-scope/kysely'
import type { Tables } from '../tables.ts'

const ledger: FastifyPluginAsyncTypebox = async (app) => {
  /** NDJSON: a line for each transfer, in constant memory, however many there are. */
  app.get('/ledger', {
    // HEAD would read all of it to answer nothing.
    exposeHeadRoute: false,
    config: { db: { readOnly: true } }
  }, async (request) => {
    const { sql, parameters } = kyselyOf<Tables>(request.db)
      .selectFrom('transfers').select(['id', 'sender as from', 'receiver as to', 'amount', 'at']).orderBy('id').compile()
    return request.db.stream(sql, [...parameters])
  })
}

export default ledger
