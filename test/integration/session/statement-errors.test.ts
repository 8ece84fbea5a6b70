import { once } from 'node:events'
import { finished, pipeline } from 'node:stream/promises'
import { type Readable, Writable } from 'node:stream'
import Fastify, { type FastifyRequest } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session, StatementError } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE orders (id int PRIMARY KEY, state text, CONSTRAINT one_of UNIQUE (state) DEFERRABLE INITIALLY DEFERRED)')
const proxy = await startPgProxy(t, postgres)
const connectionString = proxy.connectionString(postgres.connectionString)

const secret = 'value-s3cret'
const lines: { level: number, err?: { type: string, code: string, statement?: string, stack: string } }[] = []
const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
await app.register(pgScope, { connectionString })
t.teardown(() => app.close())
const { db } = app

type Work = (request: FastifyRequest) => Promise<unknown>
let work: Work = async () => {}
app.get('/', async (request) => (await work(request)) ?? {})
app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => (await work(request)) ?? {})
app.get('/wrong-role', { config: { db: { role: 'nobody_here' } } }, async (request) => request.db.query('SELECT 1'))

/** Answers one request with an error; returns what the log shows of it, and what the client reads. */
async function failing (path: string, handler: Work): Promise<{ err: NonNullable<(typeof lines)[number]['err']>, body: string, line: string }> {
  work = handler
  lines.length = 0
  const { body } = await app.inject(path)
  const [line] = lines.filter(({ err }) => err !== undefined)
  return { err: line!.err!, body, line: JSON.stringify(lines) }
}

const text = 'SELECT $1::text, 1 / (length($1) - 12)'
const insert = 'INSERT INTO orders VALUES ($1::int, $2)'

const works: [string, string, Work, string | RegExp][] = [
  ['a statement', '/', (request) => request.db.query(text, [secret]), text],
  ['a statement in mode autocommit', '/autocommit', (request) => request.db.query(text, [secret]), text],
  ['a statement by itself', '/', () => db.query(text, [secret]), text],
  ['a statement of a scope', '/', () => db.scope((session) => session.query(text, [secret])), text],
  ['a statement of transaction(fn)', '/', (request) => request.db.transaction((inner) => inner.query(text, [secret])), text],
  ['the second of two under Promise.all', '/', ({ db }) => Promise.all([db.query('SELECT 1'), db.query(text, [secret])]), text],
  ['a statement whose error was swallowed', '/', async (request) => { await request.db.query(text, [secret]).catch(() => {}) }, text],
  ['a statement behind one that failed', '/', async (request) => { await request.db.query(text, [secret]).catch(() => {}); return request.db.query('SELECT 2') }, text],
  ['a text of several statements', '/', (request) => request.db.query('SELECT 1; SELECT no_such_column'), 'SELECT 1; SELECT no_such_column'],
  ['a stream', '/', (request) => request.db.stream(text, [secret]).toArray(), text],
  ['a setting', '/wrong-role', async () => {}, /set_config/],
  ['COMMIT', '/', async (request) => { for (const id of [1, 2]) await request.db.query(insert, [id, secret]) }, 'COMMIT'],
  ['the statement under way when the connection was lost', '/', async (request) => {
    await request.db.query('SELECT 1')
    const answer = request.db.query('SELECT pg_sleep(10), $1::text', [secret])
    proxy.cut()
    return answer
  }, 'SELECT pg_sleep(10), $1::text']
]

for (const [name, path, handler, statement] of works) {
  t.test(`${name}: the log shows which text failed, the client does not see it, and values are nowhere`, async (t) => {
    const { err, body, line } = await failing(path, handler)
    if (typeof statement === 'string') t.equal(err.statement, statement)
    else t.match(err.statement, statement)
    t.notMatch(body, /SELECT|set_config/)
    t.notOk('statement' in JSON.parse(body))
    t.notOk(body.includes(secret))
    // What PostgreSQL itself puts into `detail` and `where` is its own: unique violations name the key.
    if (name !== 'COMMIT') t.notOk(line.includes(secret), line)
  })
}

t.test('the statement is not an own property: nothing that copies or sends the error takes it along', async (t) => {
  const error: StatementError = await db.query(text, [secret]).catch((error) => error)
  t.ok(error instanceof pg.DatabaseError)
  t.equal(error.statement, text)
  t.equal(error.constructor, pg.DatabaseError)
  t.notOk('statement' in { ...error })
  t.notOk(JSON.stringify(error).includes('SELECT'))
  const aborted = await db.scope((session) => session.query(text, [secret]).catch(() => {}) as never).catch(
    (error) => error
  )
  t.match(aborted, { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.equal(aborted.statement, text)
  t.notOk(JSON.stringify(aborted).includes('SELECT'))
  t.equal(await db.scope(async () => { throw new TypeError('no') }).catch((error) => error.statement), undefined, 'others\' errors are left alone')
})

const wrong = 'SELECT 1,\n  no_such_column'
const callers: [string, () => Promise<unknown>][] = [
  ['query()', () => db.query(wrong)],
  ['a scope\'s query()', () => db.scope((session) => session.query(wrong))],
  ['stream()', () => db.scope((session) => session.stream(wrong).toArray())],
  ['stream() with parameters', () => db.scope((session) => session.stream(`${wrong}, $1::int`, [1]).toArray())],
  ['stream() in transaction(fn)', () => db.scope((session) => session.transaction((inner) => inner.stream(wrong).toArray()))],
  ['stream() in mode autocommit', () => db.scope((session) => session.stream(wrong).toArray(), { mode: 'autocommit' })],
  ['a text of several statements', () => db.query(`${wrong}; SELECT 1`)]
]
for (const [name, call] of callers) {
  t.test(`position is counted in the text as it was written: ${name}`, async (t) => {
    t.match(await call().catch((error) => error), { code: '42703', position: String(wrong.indexOf('no_such_column') + 1) })
  })
}

t.test('position is counted in characters, and stays in the text where the error is about its beginning or its end', async (t) => {
  const position = (text: string) =>
    db.scope((session) => session.stream(text).toArray()).catch((error) => error.position)
  const emoji = 'SELECT \'🙂é\', no_such_column'
  t.equal(await position(emoji), await db.query(emoji).catch((error) => error.position))
  t.equal(await position('DELETE FROM orders'), '1')
  t.match(await position(''), '1')
})

/** Whether the stack leads to the function that called stream(), however its error is heard of. */
const readers: Record<string, (stream: ReturnType<Session['stream']>) => Promise<unknown>> = {
  'for await': async (stream) => { for await (const row of stream) t.ok(row) },
  'toArray()': (stream) => stream.toArray(),
  'pipeline()': (stream) => pipeline(stream, new Writable({ objectMode: true, write: (_row, _encoding, done) => done() })),
  "'error'": async (stream) => {
    const failed = once(stream, 'error')
    stream.resume()
    throw (await failed)[0]
  },
  'finished()': (stream) => finished(stream.resume() as Readable)
}
async function theReport (t: Test, session: Session, read: (typeof readers)[string], text: string): Promise<void> {
  const error = await read(session.stream(text, [], { batchSize: 5 })).then(() => null, (error) => error)
  t.match(error, { code: /^(?:42703|22012)$/ })
  t.match(error.stack, /^error: .*\n(?: {4}at .*\n)*? {4}at (?:async )?theReport /)
}
for (const [name, read] of Object.entries(readers)) {
  t.test(`the stack of a stream's error leads to the call of stream(), heard of by ${name}`, async (t) => {
    for (const text of ['SELECT no_such_column', 'SELECT 1 / (12 - i) FROM generate_series(1, 20) AS i']) {
      for (const mode of ['transaction', 'autocommit'] as const) {
        await db.scope((session) => theReport(t, session, read, text).finally(() => session.rollback()), { mode })
      }
      await db.scope(async (session) => {
        await session.transaction(async (inner) => {
          await theReport(t, inner, read, text)
          throw new Error('undone')
        }).catch(() => {})
      })
    }
  })
}

t.test('what a value\'s own toPostgres() or toJSON() throws is the cause; the message shows nothing of the value', async (t) => {
  const thrown = new RangeError('no such currency')
  for (const value of [{
    toPostgres () { throw thrown }
  }, [{ toPostgres () { throw thrown } }], { toJSON () { throw thrown } }, { get amount () { throw thrown } }]) {
    for (const call of [() => db.query('SELECT $1', [value]), () => db.scope((session) => session.query('SELECT $1', [value])), () => db.scope((session) => session.stream('SELECT $1', [value]).toArray())]) {
      const error = await call().then(() => null, (error) => error)
      t.match(error, { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /\$1 cannot be converted \(RangeError\)/ })
      t.equal(error.cause, thrown)
      t.notMatch(error.message, /currency/)
    }
  }
})
