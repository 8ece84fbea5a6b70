// What becomes of work that a transaction(fn) has left behind, and of a transaction(fn) that nobody awaits.
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

async function setUp (t: Test, mode: 'transaction' | 'autocommit' = 'transaction') {
  await postgres.query('TRUNCATE note')
  unhandled.splice(0)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, mode })
  let current: (db: Session) => unknown
  app.post('/', async (request, reply) => {
    await current(request.db)
    return reply.code(201).send({ ok: true })
  })
  const post = async (body: (db: Session) => unknown) => {
    current = body
    return (await app.inject({ method: 'POST', url: '/' })).statusCode
  }
  return { db: app.db, post }
}

const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)
const insert = (db: Session, text: string) => db.query('INSERT INTO note VALUES ($1)', [text])
const mine = new Error('mine')
const fails = (): never => { throw mine }

for (const mode of ['transaction', 'autocommit'] as const) {
  t.test(`the session passed to fn is closed once fn has settled, whatever is called on it (mode ${mode})`, async (t) => {
    const { db } = await setUp(t, mode)
    for (const outcome of ['resolves', 'rejects']) {
      await db.scope(async (session) => {
        let inner!: Session
        await session.transaction(async (session) => {
          inner = session
          await insert(session, 'inner')
          if (outcome === 'rejects') throw mine
        }).catch(() => {})
        const closed = { code: 'FST_PG_SCOPE_SESSION_CLOSED', details: /transaction\(fn\)/ }
        t.equal(inner.state, 'closed')
        await t.rejects(insert(inner, 'late'), closed)
        await t.rejects(inner.query(1 as never), closed)
        await t.rejects(inner.stream('SELECT 1').toArray(), closed)
        await t.rejects(inner.transaction(() => t.fail('it ran')), closed)
        await t.rejects(inner.commit(), closed)
        await t.rejects(inner.rollback(), closed)
        t.throws(() => inner.afterCommit(() => t.fail('it ran')), closed)
        t.throws(() => inner.afterRollback(() => t.fail('it ran')), closed)
        await insert(session, 'outer')
      })
    }
    t.same(await saved(), ['inner', 'outer', 'outer'])
    t.same(unhandled, [])
  })

  t.test(`what a failed transaction(fn) has left behind is never saved, on whichever session it is called (mode ${mode})`, async (t) => {
    const { db, post } = await setUp(t, mode)
    for (const which of ['inner', 'outer'] as const) {
      const body = async (outer: Session) => {
        let late!: Promise<unknown>
        let hook = false
        await outer.transaction((inner) => {
          const left = which === 'inner' ? inner : outer
          const failed = insert(inner, 'inner').then(fails)
          const leave = async () => {
            await failed.catch(() => {})
            await turn()
            await t.rejects(insert(left, 'late'), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
            await t.rejects(left.commit(), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
            await t.rejects(left.rollback(), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
            await t.rejects(left.transaction(() => {}), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
            t.throws(() => left.afterCommit(() => { hook = true }), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
          }
          late = leave()
          return Promise.all([failed, late])
        }).catch((error) => t.equal(error, mine))
        await late
        await insert(outer, which)
        t.notOk(hook)
      }
      t.equal(await post(body), 201)
      await db.scope(body)
    }
    t.same(await saved(), ['inner', 'inner', 'outer', 'outer'])
  })
}

t.test('what a transaction(fn) that succeeded has left behind belongs to what is around it', async (t) => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    let late!: Promise<unknown>
    await session.transaction(() => { late = sleep(10).then(() => insert(session, 'late')) })
    await late
  })
  t.same(await saved(), ['late'])
})

t.test('what it begins while its last statement still runs is begun around it', { timeout: 120000 }, async (t) => {
  for (const mode of ['transaction', 'autocommit'] as const) {
    const { db } = await setUp(t, mode)
    const during = (leave: (session: Session, outer: () => Promise<unknown>) => Promise<unknown>) => {
      return db.scope(async (session) => {
        let late!: Promise<unknown>
        const outer: Promise<unknown> = session.transaction(() => {
          session.query('INSERT INTO note SELECT \'slow\' FROM pg_sleep(0.3)')
          late = sleep(50).then(() => leave(session, () => outer))
        })
        await outer
        await late
      })
    }
    await during((session, outer) => session.transaction(async (inner) => {
      await outer()
      await insert(inner, 'transaction')
    }))
    await during(async (session, outer) => {
      const savepoint = await session.savepoint()
      await outer()
      await insert(session, 'savepoint')
      await savepoint.release()
    })
    t.same(await saved(), ['savepoint', 'slow', 'slow', 'transaction'], mode)
  }
})

t.test('an outer session that is used inside of an inner transaction(fn) works in the inner one', { timeout: 60000 }, async (t) => {
  const { db } = await setUp(t)
  await db.scope((session) => session.transaction((a) => a.transaction(async () => {
    await insert(a, 'through a')
    await insert(session, 'through the session')
    await a.transaction((c) => Promise.all([insert(a, 'a'), insert(c, 'c')]))
  })))
  await db.scope((session) => session.transaction(async (a) => {
    await a.transaction(async () => {
      await insert(a, 'undone')
      throw mine
    }).catch(() => {})
  }))
  t.same(await saved(), ['a', 'c', 'through a', 'through the session'])
})

for (const [when, body] of [
  ['at once', fails],
  ['before the answer', async (db: Session) => {
    await insert(db, 'inner')
    throw mine
  }],
  ['later', async (db: Session) => {
    await insert(db, 'inner')
    await sleep(50)
    throw mine
  }]
] as [string, (db: Session) => Promise<void>][]) {
  t.test(`a transaction(fn) that is not awaited and fails ${when} is the failure of what is around it`, async (t) => {
    for (const mode of ['transaction', 'autocommit'] as const) {
      const { db, post } = await setUp(t, mode)
      const alone = async (session: Session) => {
        session.transaction(body)
        if (when === 'before the answer') await sleep(100)
      }
      const beside = async (session: Session) => {
        if (mode === 'transaction') await insert(session, 'outer')
        await alone(session)
        if (mode === 'transaction') await insert(session, 'outer')
      }
      for (const handler of [alone, beside]) {
        t.equal(await post(handler), 500, `a request in mode ${mode}`)
        await t.rejects(db.scope(handler), mine)
        await db.scope(async (session) => {
          await t.rejects(session.transaction(handler), mine)
        })
      }
      t.same(await saved(), [])
      t.same(unhandled, [])
    }
  })
}

t.test('one that is awaited and caught is handled, however late', async (t) => {
  const { db, post } = await setUp(t)
  const handlers: ((db: Session) => unknown)[] = [
    (db) => db.transaction(fails).catch(() => {}),
    async (db) => { try { await db.transaction(fails) } catch {} },
    (db) => Promise.allSettled([db.transaction(fails), db.transaction(fails)]),
    async (db) => {
      const late = db.transaction(fails)
      await insert(db, 'kept')
      await sleep(20)
      await late.catch(() => {})
    }
  ]
  for (const handler of handlers) {
    t.equal(await post(handler), 201)
    await db.scope(handler)
    await db.scope((session) => session.transaction(handler))
  }
  t.equal((await saved()).length, 3)
  t.same(unhandled, [])
})

t.test('commit() by hand fails by one that was not awaited; rollback() clears the failure', async (t) => {
  const { db, post } = await setUp(t)
  const committing = async (session: Session) => {
    await insert(session, 'outer')
    session.transaction(fails)
    await sleep(10)
    await t.rejects(session.commit(), mine)
  }
  t.equal(await post(committing), 500)
  await t.rejects(db.scope(committing), mine)
  t.equal(await post(async (session) => {
    await committing(session)
    await session.rollback()
    await insert(session, 'anew')
  }), 201)
  t.same(await saved(), ['anew'])
  t.same(unhandled, [])
})

t.test('nothing but the caller of session() can know of a failure: there it is an unhandled rejection', async (t) => {
  const { db } = await setUp(t)
  const session = db.session()
  session.transaction(fails)
  await waitFor(() => unhandled.length > 0)
  t.same(unhandled, [mine])
  await session.close()
})
