import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'

const ledger: FastifyPluginAsyncTypebox = async (app) => {
  /** NDJSON: a line for each transfer, in constant memory, however many there are. */
  app.get('/ledger', {
    // HEAD would read all of it to answer nothing.
    exposeHeadRoute: false,
    config: { db: { readOnly: true } }
  }, async (request) => {
    return request.db.stream('select id, sender as "from", receiver as "to", amount, at from transfers order by id')
  })
}

export default ledger
