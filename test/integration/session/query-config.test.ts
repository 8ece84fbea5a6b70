import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2 } })
t.teardown(() => app.close())
const { db } = app
const cb = (): never => { throw new Error('it was called') }

t.test('what a session does not do is refused at once, with what to do instead', async t => {
  const cases: [unknown[], RegExp][] = [
    [[{ text: 'SELECT 1', queryMode: 'extended' }], /unknown field `queryMode`.*extended protocol/],
    [[{ text: 'SELECT 1', query_timeout: 10 }], /unknown field `query_timeout`.*statementTimeout/],
    [[{ text: 'SELECT 1', rows: 1 }], /unknown field `rows`.*stream\(\)/],
    [[{ text: 'SELECT 1', binary: true }], /unknown field `binary`/],
    [[{ text: 'SELECT 1', callback: cb }], /unknown field `callback`.*await/],
    [[{ text: 'SELECT 1', toString: 1 }], /unknown field `toString`/],
    [[{ text: 'SELECT 1', rowMode: 'object' }], /`rowMode`/],
    [['SELECT 1', cb], /callbacks are not called/],
    [['SELECT $1', [1], cb], /callbacks are not called/],
    [[{ text: 'SELECT 1', submit () {} }], /submits itself.*lease/]
  ]
  for (const [args, details] of cases) {
    const refused = { code: 'FST_PG_SCOPE_QUERY_INVALID', details }
    await t.rejects((db.query as (...args: unknown[]) => Promise<unknown>).apply(db, args), refused)
    await t.rejects(
      db.scope((session) => (session.query as (...args: unknown[]) => Promise<unknown>).apply(session, args)), refused
    )
    await t.rejects(db.scope((session) => session.transaction(
      (inner) => (inner.query as (...args: unknown[]) => Promise<unknown>).apply(inner, args)
    )), refused)
  }
  t.same((await db.query({ text: 'SELECT 1 AS a', values: undefined, callback: undefined } as never)).rows, [{ a: 1 }])
})

t.test('an object of a template tag is a statement: its text and values may be getters', async t => {
  class Tagged {
    strings = ['SELECT ', ' AS a']
    given = [7]
    get text (): string { return 'SELECT $1::int AS a' }
    get sql (): string { return 'SELECT ? AS a' }
    get values (): unknown[] { return this.given }
  }
  t.same((await db.query(new Tagged() as never)).rows, [{ a: 7 }])
  t.same(await db.scope(async (session) => (await session.query(new Tagged() as never)).rows), [{ a: 7 }])
})
