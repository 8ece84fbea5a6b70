// What belongs to a server connection is refused although it was called before a pooler was found.
import t, { type Test } from 'tap'
import { startApp } from './app.ts'
import { eachPlace } from './places.ts'
import { rules } from '../../../lib/pgbouncer/rules.ts'
import { startLosingPooler } from '../../../harness/losing-pooler.ts'
import { type PgProxy, startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine, PgScopeOptions } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
const strategies = ['queue', 'null'] as const

/** One text for each way in which a rule reads a text. */
const belongings: [what: string, text: string][] = [
  ['SET without LOCAL', "SET app.tenant = 'a'"],
  ['a temporary table that outlives the transaction', 'CREATE TEMP TABLE mine (a int)'],
  ['a session advisory lock', 'SELECT pg_advisory_lock(1)'],
  ['LISTEN', 'SELECT 1; LISTEN news']
]
const [firstBelonging] = belongings

/** The error as it is once the pooler is known. */
function refusal (what: string) {
  const { reason, instead } = rules.find((rule) => rule.what === what)!
  return { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED', statusCode: 500, details: `${what} cannot work behind a pooler in transaction mode: ${reason}. ${instead}. On a direct connection it is allowed.` }
}

const ways: Record<string, (db: Engine, text: string) => Promise<unknown>> = {
  'app.db.query()': (db, text) => db.query(text),
  'a named statement': (db, text) => db.query({ name: 'mine', text }),
  'app.db.query() with settings': (db, text) => db.scope((session) => session.query(text), { mode: 'autocommit', settings: { 'app.a': '1' } }),
  'scope()': (db, text) => db.scope((session) => session.query(text)),
  'a read-only scope()': (db, text) => db.scope((session) => session.query(text), { readOnly: true }),
  'scope() with a signal': (db, text) => db.scope((session) => session.query({ text, signal: new AbortController().signal })),
  'a nested transaction': (db, text) => db.scope((session) => session.transaction((inner) => inner.query(text))),
  'mode autocommit': (db, text) => db.scope((session) => session.query(text), { mode: 'autocommit' }),
  'a transaction of mode autocommit': (db, text) => db.scope((session) => session.transaction((inner) => inner.query(text)), { mode: 'autocommit' }),
  'stream()': (db, text) => db.scope((session) => session.stream(text).toArray()),
  'stream() of mode autocommit': (db, text) => db.scope((session) => session.stream(text).toArray(), { mode: 'autocommit' }),
  'session()': async (db, text) => {
    await using session = db.session()
    await session.query(text)
  }
}

const open = (t: Test, proxy: PgProxy, options: PgScopeOptions = {}) =>
  startApp(t, { connectionString: proxy.connectionString(postgres.connectionString), startupCheck: false, ...options })

const wasSent = ({ statements }: PgProxy): boolean =>
  statements.some((text) => belongings.some(([, belonging]) => text.includes(belonging)))

/** Before 1.26 a PgBouncer that ignores the settings at login is found by the answer to a question, not before. */
const withoutHint = { ignore_startup_parameters: 'extra_float_digits, statement_timeout, lock_timeout, idle_in_transaction_session_timeout' }

for (const settings of [undefined, withoutHint]) {
  t.test(`behind a pooler that ${settings === undefined ? 'refuses' : 'ignores'} settings at login`, (t) => eachPlace(t, postgres, ['transaction'], async (t, place) => {
    const proxy = await startPgProxy(t, place)

    t.test('the first statement of a process is refused like any later one, and never sent', async (t) => {
      for (const strategy of strategies) {
        for (const [way, run] of Object.entries(ways)) {
          const [what, text] = belongings[Object.keys(ways).indexOf(way) % belongings.length]!
          const { db } = await open(t, proxy, { pool: { strategy } })
          await t.rejects(run(db, text), refusal(what), `${way}: ${text}`)
          await t.rejects(run(db, text), refusal(what), `${way}, again`)
          t.equal((await db.query('SELECT 1 AS one')).rows[0].one, 1)
        }
      }
      t.notOk(wasSent(proxy))
    })

    t.test('so are many at once', async (t) => {
      for (const strategy of strategies) {
        for (const way of ['app.db.query()', 'scope()']) {
          const { db } = await open(t, proxy, { pool: { strategy, max: 4 } })
          await Promise.all(Array.from({ length: 12 }, (_, n) => {
            const [what, text] = belongings[n % belongings.length]!
            return t.rejects(ways[way]!(db, text), refusal(what))
          }))
        }
      }
      t.notOk(wasSent(proxy))
    })

    t.test('what was called before it runs, what was called after it does not, and transaction(fn) contains it', async (t) => {
      const [what, text] = firstBelonging!
      const { app, db, listen } = await open(t, proxy)
      await db.scope(async (session) => {
        const [before, refused, after] = await Promise.allSettled([session.query('SELECT 1 AS one'), session.query(text), session.query('SELECT 2')])
        t.match(before, { value: { rows: [{ one: 1 }] } })
        t.match(refused, { reason: refusal(what) })
        t.match(after, { reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: refusal(what) } })
        await session.rollback()
      })
      const other = await open(t, proxy)
      t.same(await other.db.scope(async (session) => {
        await t.rejects(session.transaction((inner) => inner.query(text)), refusal(what))
        return (await session.query('SELECT 1 AS one')).rows
      }), [{ one: 1 }])
      app.get('/', (request) => request.db.query(text))
      const response = await fetch(`http://127.0.0.1:${await listen()}/`)
      t.match([response.status, await response.json()], [500, { code: refusal(what).code }])
      t.notOk(wasSent(proxy))
    })

    t.test('the question about the pooler is asked again after a transaction that could not begin', async (t) => {
      const [what, text] = firstBelonging!
      const { db } = await open(t, proxy, { pool: { max: 1 } })
      await t.rejects(db.scope((session) => session.query('SELECT 1'), { role: 'missing' }))
      await t.rejects(ways['scope()']!(db, text), refusal(what))
      t.notOk(wasSent(proxy))
    })
  }, settings))
}

t.test('a pooler that does not identify itself is found out before such a statement is sent', async (t) => {
  const pooler = new URL((await startLosingPooler(t, postgres)).connectionString(postgres.connectionString))
  const proxy = await startPgProxy(t, { host: pooler.hostname, port: Number(pooler.port) })
  for (const strategy of strategies) {
    for (const way of ['app.db.query()', 'scope()', 'stream()']) {
      const { db } = await open(t, proxy, { pool: { strategy } })
      const [what, text] = firstBelonging!
      await t.rejects(ways[way]!(db, text), refusal(what), way)
    }
  }
  t.notOk(wasSent(proxy))
})

t.test('directly all of it is accepted, in the order of the calls, and other statements cost no further round trip', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  for (const strategy of strategies) {
    for (const [way, run] of Object.entries(ways)) {
      const { db } = await open(t, proxy, { pool: { strategy } })
      const text = way.startsWith('stream') ? 'SELECT pg_advisory_lock(1)' : firstBelonging![1]
      await t.resolves(run(db, text), way)
    }
    const { db } = await open(t, proxy, { pool: { strategy } })
    const results = await db.scope((session) => Promise.all([
      session.query("SELECT coalesce(current_setting('app.tenant', true), '') AS tenant"),
      session.query("SET app.tenant = 'a'"),
      session.query("SELECT current_setting('app.tenant') AS tenant")
    ]))
    t.same(results.map(({ rows }) => rows), [[{ tenant: '' }], [], [{ tenant: 'a' }]])
    const plain = await open(t, proxy, { pool: { strategy } })
    await plain.db.scope((session) => Promise.all([session.query('SELECT 1'), session.query('SELECT 2')]))
    t.equal(plain.db.stats().counters.roundTrips, 2, 'BEGIN with the statements, and COMMIT')
  }
})

t.test('where another pooler or none appears, each connection is judged by what it leads to', (t) => eachPlace(t, postgres, ['transaction'], async (t, place) => {
  const [what, text] = firstBelonging!
  const tenant = "SELECT coalesce(current_setting('app.tenant', true), '') AS tenant"

  t.test('a statement that waits for its first connection is refused if that one leads to a pooler', async (t) => {
    for (const way of ['app.db.query()', 'scope()', 'stream()']) {
      const proxy = await startPgProxy(t, postgres)
      const { db } = await open(t, proxy, { startupCheck: true })
      t.same(db.pooler, { kind: 'none' })
      proxy.redirect(place)
      await db.reset()
      await t.rejects(ways[way]!(db, way === 'stream()' ? 'SELECT pg_advisory_lock(1)' : text), { code: refusal(what).code }, way)
      t.notOk(wasSent(proxy))
    }
  })

  t.test('an open transaction behind a pooler stays so when newer connections are direct', async (t) => {
    const proxy = await startPgProxy(t, place)
    const { db } = await open(t, proxy, { startupCheck: true, pool: { max: 2 } })
    await using session = db.session()
    await session.query('SELECT 1')
    proxy.redirect(postgres)
    await db.query('SELECT 1')
    t.same(db.pooler, { kind: 'none' })
    await t.rejects(session.query(text), refusal(what))
    t.notOk(wasSent(proxy))
  })

  t.test('a direct connection is reset although newer ones lead to a pooler', async (t) => {
    const proxy = await startPgProxy(t, postgres)
    const { db } = await open(t, proxy, { startupCheck: true, pool: { max: 2 } })
    await using session = db.session()
    await session.query(text)
    proxy.redirect(place)
    await db.query('SELECT 1')
    t.equal(db.pooler.kind, 'pgbouncer')
    await session.commit()
    await session.close()
    t.same(await Promise.all([1, 2].map(() => db.scope(async (session) => (await session.query(tenant)).rows[0].tenant))), ['', ''])
  })
}))
