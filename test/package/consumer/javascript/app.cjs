'use strict'
const assert = require('node:assert/strict')
const fastify = require('fastify')()
const { startPostgres } = require('fastify-pg-scope/embedded')

async function main () {
  const postgres = await startPostgres()
  try {
    fastify.register(require('fastify-pg-scope'), { connectionString: postgres.connectionString })
    fastify.get('/', async request => (await request.db.query('select 1 as one')).rows)
    assert.equal((await fastify.inject('/')).body, '[{"one":1}]')
  } finally {
    await fastify.close()
    await postgres.stop()
  }
  console.log('done')
}

main()
