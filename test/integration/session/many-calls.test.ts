// Sizes at which anything that takes quadratic time would not come to an end.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: proxy.connectionString(postgres.connectionString) })
  return { db: app.db, proxy }
}

t.test('200,000 statements that were called at once are all rejected where no connection can be had', async (t) => {
  const { db, proxy } = await setUp(t)
  await db.query('SELECT 1')
  proxy.refuse()
  proxy.cut()
  await using session = db.session()
  const calls = Array.from({ length: 200_000 }, () => session.query('SELECT 1'))
  const results = await Promise.allSettled(calls)
  t.ok(results.every(({ status }) => status === 'rejected'))
  t.equal(session.state, 'failed')
})

t.test('20,000 transaction(fn) side by side run one after the other', async (t) => {
  const { db } = await setUp(t)
  let ran = 0
  await db.scope((session) => Promise.all(Array.from({ length: 20_000 }, () => session.transaction(() => { ran++ }))))
  t.equal(ran, 20_000)
})

t.test('1,000 levels of transaction(fn) that fail run each hook once', async (t) => {
  const { db } = await setUp(t)
  let ran = 0
  const level = (session: Session, depth: number): Promise<void> => session.transaction(async (inner) => {
    inner.afterRollback(() => { ran++ })
    inner.afterCommit(() => t.fail('nothing is committed'))
    await null // each level begins with a stack of its own
    if (depth < 1000) await level(inner, depth + 1)
    throw new Error('no')
  })
  await t.rejects(db.scope((session) => level(session, 1)), { message: 'no' })
  t.equal(ran, 1000)
})

for (const mode of ['transaction', 'autocommit'] as const) {
  for (const through of ['the session passed to fn', 'the outer session'] as const) {
    t.test(`3,000 levels of transaction(fn), each called at once through ${through}, run and can be undone (mode ${mode})`, async (t) => {
      const { db } = await setUp(t)
      for (const outcome of ['resolves', 'rejects']) {
        const started: number[] = []
        const work = db.scope((outer) => {
          const level = (session: Session, depth: number): Promise<string> => session.transaction<string>((inner) => {
            started.push(depth)
            if (depth < 3000) return level(through === 'the outer session' ? outer : inner, depth + 1)
            if (outcome === 'rejects') throw new Error('no')
            return 'innermost'
          })
          return level(outer, 1)
        }, { mode })
        if (outcome === 'resolves') t.equal(await work, 'innermost')
        else await t.rejects(work, { message: 'no' })
        t.same(started, Array.from({ length: 3000 }, (_, i) => i + 1))
      }
    })
  }
}

t.test('3,000 levels of transaction(fn) with a statement in the innermost reach the server in order', async (t) => {
  const { db, proxy } = await setUp(t)
  const level = (session: Session, depth: number): Promise<unknown> =>
    session.transaction((inner) => depth < 3000 ? level(inner, depth + 1) : inner.query('SELECT 1 AS one'))
  t.match(await db.scope((session) => level(session, 1)), { rows: [{ one: 1 }] })
  const savepoints = proxy.executed.filter((text) => text.startsWith('SAVEPOINT'))
  t.same(savepoints, Array.from({ length: 3000 }, (_, i) => `SAVEPOINT scope_${i + 1}`))
})
