import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startPostgres } from 'fastify-pg-scope/embedded'
import { call, openAccount, openBank } from './helpers/bank.ts'

const postgres = await startPostgres({ database: 'bank' })
after(() => postgres.stop())
const app = await openBank({ DATABASE_URL: postgres.connectionString })

test('health follows the database', async () => {
  const { status, body } = await call(app, 'GET', '/health')
  assert.equal(status, 200)
  assert.equal(body.status, 'ok')
  assert.equal(body.pool.inUse, 0)

  const ada = await openAccount(app, 'Ada', 5)
  await postgres.restart()
  assert.equal((await call(app, 'GET', `/accounts/${ada}`)).status, 200, 'no request fails after a restart')

  await postgres.stop()
  for (const url of ['/health', `/accounts/${ada}`, '/ledger']) {
    const answer = await call(app, 'GET', url)
    assert.equal(answer.status, 503, url)
    assert.equal(answer.headers['retry-after'], '1')
    assert.doesNotMatch(JSON.stringify(answer.body), /127\.0\.0\.1|postgres/, 'the host stays in the log')
  }
})
