import t from 'tap'
import { bankCases, gate, transfer } from './bank.ts'
import type { Session } from '../../../lib/index.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
const conflict = 'DO $$ BEGIN RAISE EXCEPTION \'a conflict\' USING ERRCODE = \'40P01\'; END $$'
const insert = 'INSERT INTO entry (text) VALUES ($1)'

test('20 concurrent serializable scopes on 4 accounts all succeed, and the sum holds', {}, async (t, { app }) => {
  await app.ready()
  const attempts: number[] = []
  await Promise.all(Array.from({ length: 20 }, (_, n) => app.db.scope(async (db) => {
    await transfer(db, 1 + n % 4, 1 + (n + 1 + n % 3) % 4, n)
    attempts[n] = db.attempt
  }, { isolation: 'serializable', retry: { attempts: 50, minDelay: 5, maxDelay: 200 } })))
  t.equal((await postgres.query('SELECT sum(balance)::int AS sum FROM account')).rows[0].sum, 400)
  t.equal(app.db.stats().counters.retried, attempts.reduce((sum, n) => sum + n, -20))
})

test('each attempt gets a session of its own, and the hooks of the others are dropped', { plugin: { retry: { attempts: 3, minDelay: 1 } } }, async (t, { app, entries }) => {
  await app.ready()
  const sessions = new Set<Session>()
  const calls: string[] = []
  const result = await app.db.scope(async (db) => {
    sessions.add(db)
    const { attempt } = db
    db.afterCommit(() => { calls.push(`committed ${attempt}`) })
    db.afterRollback(() => { calls.push(`rolled back ${attempt}`) })
    t.equal(app.db.current().attempt, attempt)
    await db.transaction(async (inner) => {
      t.equal(inner.attempt, attempt)
      await inner.query(insert, [`attempt ${attempt}`])
      if (attempt < 3) await inner.query(conflict)
    })
    return attempt
  })
  t.equal(result, 3)
  t.equal(sessions.size, 3)
  t.same(calls, ['rolled back 1', 'rolled back 2', 'committed 3'])
  t.same(await entries(), ['attempt 3'])
})

test('an error that a library wraps or replaces is known by its transaction', {}, async (t, { app }) => {
  await app.ready()
  for (const wrap of [(cause: unknown) => new Error('wrapped', { cause }), () => new Error('replaced'), () => 'no error at all']) {
    const attempt = await app.db.scope(async (db) => {
      if (db.attempt === 1) await db.query(conflict).catch((error) => { throw wrap(error) })
      return db.attempt
    }, { retry: { attempts: 2, minDelay: 0 } })
    t.equal(attempt, 2)
  }
})

test('the error of the last attempt says which one it was', {}, async (t, { app }) => {
  await app.ready()
  await t.rejects(app.db.scope((db) => db.query(conflict), { retry: { attempts: 3, minDelay: 0 } }), { code: '40P01', attempt: 3, notRetried: /last of 3/ })
})

test('after commit() nothing is run again', {}, async (t, { app, entries }) => {
  await app.ready()
  await t.rejects(app.db.scope(async (db) => {
    await db.query(insert, ['saved'])
    await db.commit()
    await db.query(conflict)
  }, { retry: 3 }), { code: '40P01', attempt: 1, notRetried: /commit\(\)/ })
  t.same(await entries(), ['saved'])
})

test('a signal ends the delay between two attempts', {}, async (t, { app, log }) => {
  await app.ready()
  const controller = new AbortController()
  const retry = { attempts: 2, minDelay: 60000, maxDelay: 60000 }
  const scope = app.db.scope((db) => db.query(conflict), { signal: controller.signal, retry })
  scope.catch(() => {})
  await waitFor(() => log.some(({ delay }) => delay !== undefined))
  controller.abort(new Error('enough'))
  await t.rejects(scope, { code: 'FST_PG_SCOPE_CANCELED', cause: { message: 'enough' } })
})

test('close() ends the delay between two attempts', {}, async (t, { app, log }) => {
  await app.ready()
  const started = gate()
  const scope = app.db.scope(async (db) => {
    started.open()
    await db.query(conflict)
  }, { retry: { attempts: 2, minDelay: 60000, maxDelay: 60000 } })
  scope.catch(() => {})
  await waitFor(() => log.some(({ delay }) => delay !== undefined))
  await app.close()
  await t.rejects(scope, { code: '40P01', notRetried: 'the app is closing' })
})

test('session() has nothing to run again, and says so', {}, async (t, { app }) => {
  await app.ready()
  t.throws(() => app.db.session({ retry: 3 }), { code: 'FST_PG_SCOPE_OPTIONS', details: /scope\(fn, \{ retry \}\)/ })
})
