import { startPostgres } from 'fastify-pg-scope/embedded'
import t from 'tap'
import { call, openAccount, openBank } from './helpers/bank.ts'

t.test('health follows the database', async t => {
  const postgres = await startPostgres({ database: 'bank' })
  t.teardown(() => postgres.stop())
  const app = await openBank(t, { DATABASE_URL: postgres.connectionString })

  const { status, body } = await call(app, 'GET', '/health')
  t.equal(status, 200)
  t.match(body, { status: 'ok', ping: Number, pool: { max: 10, open: Number, idle: Number, inUse: 0, waiting: 0, counters: { opened: Number } } })

  const ada = await openAccount(app, 'Ada', 5)
  await postgres.restart()
  t.equal((await call(app, 'GET', `/accounts/${ada}`)).status, 200, 'no request hears of a restart')

  await postgres.stop()
  for (const url of ['/health', `/accounts/${ada}`, '/ledger']) {
    const answer = await call(app, 'GET', url)
    t.match(answer, { status: 503, headers: { 'retry-after': '1' }, body: { statusCode: 503, error: 'Service Unavailable' } }, url)
    t.notMatch(JSON.stringify(answer.body), /127\.0\.0\.1|postgres/, 'and it keeps the host to itself')
  }
})
