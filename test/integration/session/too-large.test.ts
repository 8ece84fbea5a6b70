import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2 } })
t.teardown(() => app.close())
const { db } = app
const count = async (): Promise<number> => (await postgres.query('SELECT count(*)::int AS n FROM things')).rows[0].n
const works = async (t: Pick<typeof import('tap').t, 'same'>): Promise<void> => { t.same((await db.query('SELECT $1::text AS a', ['works'])).rows, [{ a: 'works' }]) }

/** Taken from the system only when it is read. */
const zeros = Buffer.alloc(400_000_000)

t.test('values that together are larger than a message may be are refused at once, and nothing else is', async t => {
  const refused = { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /the largest, \$1, is a Buffer of 400000000 bytes/ }
  await t.rejects(db.query('SELECT $1::bytea, $2::bytea, $3::bytea', [zeros, zeros, zeros]), refused)
  await works(t)
  await t.rejects(db.scope(async (session) => {
    await session.query('INSERT INTO things VALUES ($1)', ['never saved'])
    await session.query('SELECT $1::bytea, $2::bytea, $3::bytea', [zeros, zeros, zeros])
  }), refused)
  t.equal(await count(), 0)
  await works(t)
})

t.test('large values are sent as they are, however many statements there are', async t => {
  const part = zeros.subarray(0, 1_000_000)
  const lengths = await db.scope((session) => Promise.all(Array.from({ length: 6 }, () => session.query('SELECT length($1::bytea) + length($2) AS n', [part, 'ü'.repeat(100_000)]))))
  t.same(lengths.map(({ rows }) => rows[0].n), Array(6).fill(1_100_000))
  await works(t)
})

t.test('where a statement cannot be written, nothing of its batch is sent and nothing of it resolves', async t => {
  const { allocUnsafeSlow } = Buffer
  const long = 'a'.repeat(20_000)
  const outOfMemory = (): never => { throw new RangeError('Array buffer allocation failed') }
  const session = db.session()
  Buffer.allocUnsafeSlow = outOfMemory
  const answers = await Promise.allSettled([
    session.query('INSERT INTO things VALUES (1)'),
    session.query('INSERT INTO things VALUES ($1)', [long]),
    session.query('INSERT INTO things VALUES (3)')
  ]).finally(() => { Buffer.allocUnsafeSlow = allocUnsafeSlow })
  for (const answer of answers) t.match(answer, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_QUERY_INVALID', cause: { name: 'RangeError' } } })
  await session.rollback()
  await session.query('INSERT INTO things VALUES (4)')
  Buffer.allocUnsafeSlow = outOfMemory
  await t.rejects(session.query('INSERT INTO things VALUES ($1)', [long]), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
    .finally(() => { Buffer.allocUnsafeSlow = allocUnsafeSlow })
  await t.rejects(session.query('INSERT INTO things VALUES (6)'), { code: /^FST_PG_SCOPE_(QUERY_INVALID|TRANSACTION_ABORTED)$/ })
  await session.close()
  Buffer.allocUnsafeSlow = outOfMemory
  await t.rejects(db.query('INSERT INTO things VALUES ($1)', [long]), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
    .finally(() => { Buffer.allocUnsafeSlow = allocUnsafeSlow })
  t.equal(await count(), 0)
  await works(t)
  t.match(db.stats(), { inUse: 0 })
})

t.test('bytes are those of the moment of the call, whatever becomes of their buffer', async t => {
  const shared = Buffer.alloc(4)
  const views = [
    shared, new Uint8Array(shared.buffer, shared.byteOffset, 4), new DataView(shared.buffer, shared.byteOffset, 4)
  ]
  const whole = new ArrayBuffer(4)
  for (const run of [
    db.query.bind(db), (text: string, values: unknown[]) => db.scope((session) => session.query(text, values))
  ]) {
    const reads = ['A', 'B', 'C', 'D'].map((letter) => {
      shared.fill(letter)
      new Uint8Array(whole).fill(letter.charCodeAt(0))
      return run('SELECT convert_from($1, \'utf8\') AS a, convert_from($2, \'utf8\') AS b, convert_from($3, \'utf8\') AS c, convert_from($4, \'utf8\') AS d', [...views, whole])
    })
    t.same((await Promise.all(reads)).map(({ rows }) => Object.values(rows[0]).join(' ')), ['A', 'B', 'C', 'D'].map((a) => Array(4).fill(a.repeat(4)).join(' ')))
  }
})

t.test('a value that turns itself into anything but text or bytes is refused', async t => {
  const odd = Object.assign(() => {}, { toString: () => 7 })
  await t.rejects(db.query('SELECT $1::text', [odd]), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /\$1/ })
  await works(t)
})
