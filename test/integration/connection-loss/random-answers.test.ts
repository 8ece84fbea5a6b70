// Answers of the server that a random change has made something else, beside malformed-answers.test.ts, whose cases
// are chosen. The short form of `npm run fuzz -- --answers 5000`.
import t from 'tap'
import Fastify from 'fastify'
import { fuzzAnswers } from '../../../harness/fuzz/answers.ts'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { serverMessage, startTamperingProxy } from '../../../harness/tampering-proxy.ts'

const postgres = await startTestPostgres(t)
const notice = serverMessage('N', 'SNOTICE\0C00000\0Mhello\0\0')

t.test('150 answers with a random change: an error or the right rows, and never those of another session', async (t) => {
  const { failures, failed } = await fuzzAnswers({ postgres, answers: 150, seed: 1 })
  t.same(failures, [])
  t.ok(failed > 40, `${failed} of them failed`)
})

t.test('notices', async (t) => {
  const proxy = await startTamperingProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: proxy.connectionString(postgres.connectionString) })
  const { db } = app

  await t.test('a flood of them in front of every message changes nothing', async (t) => {
    const flood = Buffer.concat(new Array<Buffer>(5000).fill(notice))
    proxy.arm('victim', ({ bytes }) => Buffer.concat([flood, bytes]))
    const { rows } = await db.query("SELECT a, 'victim' AS b FROM generate_series(1, 2) AS a")
    proxy.disarm()
    t.same(rows, [{ a: 1, b: 'victim' }, { a: 2, b: 'victim' }])
    t.match(db.stats(), { inUse: 0, waiting: 0 })
  })

  await t.test('a flood of them in the place of an answer ends with the connection', async (t) => {
    const flood = Buffer.concat(new Array<Buffer>(1000).fill(notice))
    proxy.arm('victim', (_message, index) => index < 6 ? flood : null)
    await t.rejects(db.query("SELECT a, 'victim' AS b FROM generate_series(1, 3) AS a"), { code: /^FST_PG_SCOPE_/ })
    proxy.disarm()
    t.same((await db.query('SELECT 1 AS one')).rows, [{ one: 1 }])
    t.match(db.stats(), { inUse: 0, waiting: 0 })
  })
})
