import t from 'tap'
import Fastify from 'fastify'
import { pipeline } from 'node:stream/promises'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { onlyPipelined, withoutSettings } from '../../../harness/variant.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
const proxy = await startPgProxy(t, postgres)
const app = Fastify()
await app.register(pgScope, { connectionString: proxy.connectionString(postgres.connectionString) })
t.teardown(() => app.close())

const { db } = app
const numbers = 'SELECT i FROM generate_series(1, $1::int) AS i'
const upTo = (n: number) => Array.from({ length: n }, (_, i) => ({ i: i + 1 }))
const cursors = async (session: Session): Promise<number> => (await session.query('SELECT count(*)::int AS n FROM pg_cursors WHERE name LIKE \'scope%\'')).rows[0].n
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const heapUsed = (): number => {
  collect()
  return process.memoryUsage().heapUsed
}
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))
process.on('uncaughtException', (error) => unhandled.push(error))

t.beforeEach(() => proxy.reset())

for (const [rows, batchSize] of [
  [0, 10], [1, 10], [9, 10], [10, 10], [11, 10], [100, 1], [1000, 500], [1001, 500], [20, 1000]
] as const) {
  t.test(`${rows} rows by ${batchSize} come whole and in order, and the cursor is closed`, async t => {
    await db.scope(async (session) => {
      t.same(await session.stream(numbers, [rows], { batchSize }).toArray(), upTo(rows))
      t.equal(await cursors(session), 0)
    })
  })
}

onlyPipelined(t, 'CLOSE is answered before COMMIT is sent').test('DECLARE and the first FETCH travel with BEGIN', async t => {
  await db.scope((session) => session.stream(numbers, [3]).toArray())
  t.match(withoutSettings(proxy.executed).slice(0, 3), [/^BEGIN/, /^DECLARE/, /^FETCH/])
  t.equal(proxy.roundTrips, 2, 'CLOSE goes in front of COMMIT')
})

t.test('the default batch is 500 rows, and the next one is fetched while rows are read', async t => {
  await db.scope(async (session) => {
    const stream = session.stream(numbers, [10_000])
    await sleep(100)
    const fetches = () => proxy.executed.filter((text) => text.startsWith('FETCH FORWARD 500 ')).length
    t.ok(fetches() <= 2, 'no more than asked for, one ahead')
    for await (const row of stream) {
      if (row.i === 100) {
        await sleep(50)
        t.equal(fetches(), 2)
        break
      }
    }
  })
})

t.test('200,000 rows pass in constant memory', { timeout: 60000 }, async t => {
  await db.scope(async (session) => {
    let count = 0
    let largest = 0
    const before = heapUsed()
    for await (const { i, text } of session.stream('SELECT i, repeat(\'x\', 100) AS text FROM generate_series(1, 200000) AS i')) {
      count++
      if (i !== count || text.length !== 100) t.fail(`row ${count} is ${i}`)
      if (count % 20_000 === 0) largest = Math.max(largest, heapUsed())
    }
    t.equal(count, 200_000)
    t.ok(largest - before < 20_000_000, `${Math.round((largest - before) / 1e6)} MB more at most`)
  })
})

t.test('a slow reader holds back the server, and loses nothing', async t => {
  await db.scope(async (session) => {
    let count = 0
    const stream = session.stream(numbers, [300], { batchSize: 20 })
    await pipeline(stream, new Writable({
      objectMode: true,
      highWaterMark: 1,
      write (row, _encoding, done) {
        if (row.i !== ++count) return done(new Error(`row ${count} is ${row.i}`))
        const most = Math.ceil((count + 20) / 20) + 2
        if (proxy.executed.filter((text) => text.startsWith('FETCH')).length > most) return done(new Error('fetched too far ahead'))
        count % 10 === 0 ? setTimeout(done, 2) : done()
      }
    }))
    t.equal(count, 300)
  })
})

for (const batchSize of [1, 2, 5, 16, 17, 500]) {
  t.test(`an early break by ${batchSize} closes the cursor and leaves the session usable`, async t => {
    await db.scope(async (session) => {
      for (const last of [1, 3, 20]) {
        for await (const { i } of session.stream(numbers, [1000], { batchSize })) if (i === last) break
        await sleep(5)
        t.equal(await cursors(session), 0)
      }
      t.equal(session.state, 'active')
    })
  })
}

t.test('a stream that is destroyed before anything came closes its cursor', async t => {
  await db.scope(async (session) => {
    session.stream(numbers, [1000]).destroy()
    const stream = session.stream(numbers, [1000])
    await session.query('SELECT 1')
    stream.destroy()
    t.equal(await cursors(session), 0)
    t.equal(session.state, 'active')
  })
})

t.test('an error in the middle reaches the reader behind the rows before it, and fails the transaction', async t => {
  await t.rejects(db.scope(async (session) => {
    const seen: number[] = []
    await t.rejects((async () => {
      for await (const { a } of session.stream('SELECT 10 / (25 - i) AS a FROM generate_series(1, 100) AS i', [], { batchSize: 10 })) seen.push(a)
    })(), { code: '22012' })
    t.ok(seen.length > 0 && seen.length <= 20, `${seen.length} rows`)
    t.equal(session.state, 'failed')
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
})

t.test('a wrong text, wrong values or a wrong batch size are errors of the stream', async t => {
  const session = db.session()
  for (const args of [[1], ['SELECT 1', 1], ['SELECT 1', [], { batchSize: 0 }], ['SELECT 1', [], { batchSize: 1.5 }], ['SELECT 1', [], { batchSize: '5' }]] as unknown as [string][]) {
    await t.rejects(session.stream(...args).toArray(), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  }
  await t.rejects(session.stream('COMMIT').toArray(), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
  t.equal(db.stats().inUse, 0, 'nothing was sent')
  await session.rollback()
  await t.rejects(session.stream('SELECT no_such_column').toArray(), { code: '42703' })
  await session.rollback()
  await t.rejects(session.stream('DELETE FROM things').toArray(), { code: '42601' })
  await session.rollback()
  await t.rejects(session.stream('SELECT 1; DELETE FROM things').toArray(), { code: '42601' })
  await session.close()
})

t.test('two streams at once, with queries among them', async t => {
  await db.scope(async (session) => {
    const read = async (n: number) => {
      const rows: unknown[] = []
      for await (const row of session.stream(numbers, [n], { batchSize: 7 })) {
        rows.push(row)
        if (rows.length % 50 === 0) t.same((await session.query('SELECT $1::int AS a', [rows.length])).rows, [{ a: rows.length }])
      }
      return rows
    }
    const [one, two] = await Promise.all([read(200), read(333)])
    t.same(one, upTo(200))
    t.same(two, upTo(333))
  })
})

t.test('rows may be written while others are read', async t => {
  await db.scope(async (session) => {
    for await (const { i } of session.stream(numbers, [50], { batchSize: 5 })) await session.query('INSERT INTO things VALUES ($1)', [`row ${i}`])
  })
  t.equal((await postgres.query('SELECT count(*)::int AS n FROM things')).rows[0].n, 50)
})

t.test('a stream opened in transaction(fn) ends with it when that is rolled back, and harms nothing', async t => {
  await db.scope(async (session) => {
    await session.query('SELECT 1')
    let stream!: ReturnType<Session['stream']>
    await t.rejects(session.transaction(async () => {
      stream = session.stream(numbers, [1000], { batchSize: 10 })
      for await (const { i } of stream.iterator({ destroyOnReturn: false })) if (i === 5) break
      throw new Error('no')
    }), { message: 'no' })
    await t.rejects(stream.toArray(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /transaction\(fn\)/, cause: { message: 'no' } })
    stream.destroy()
    t.equal(await cursors(session), 0)
    t.equal(session.state, 'active')
  })
})

t.test('one opened deeper, in a savepoint that was kept, goes with the outer one', async t => {
  await db.scope(async (session) => {
    let stream!: ReturnType<Session['stream']>
    await t.rejects(session.transaction(async () => {
      await session.transaction(() => { stream = session.stream(numbers, [1000], { batchSize: 10 }) })
      throw new Error('no')
    }), { message: 'no' })
    await t.rejects(stream.toArray(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    t.same((await session.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  })
})

t.test('a stream opened in transaction(fn) that is kept can be read afterwards', async t => {
  await db.scope(async (session) => {
    const { stream } = await session.transaction(() => ({ stream: session.stream(numbers, [100], { batchSize: 10 }) }))
    t.same(await stream.toArray(), upTo(100))
  })
})

for (const batchSize of [1, 3, 10, 500]) {
  t.test(`a stream goes on, whichever rows are worked on in a transaction(fn) that fails (${batchSize} at a time)`, async t => {
    await db.scope(async (session) => {
      const rows: unknown[] = []
      for await (const row of session.stream(numbers, [60], { batchSize })) {
        rows.push(row)
        await session.transaction(async () => {
          await session.query('SELECT 1 / ($1::int % 2)', [row.i])
          if (row.i % 3 === 0) throw new Error('no')
        }).catch(() => {})
      }
      t.same(rows, upTo(60))
    })
  })
}

t.test('a transaction(fn) that caught a SQL error gets no rows from outside, and does not wait for itself', { timeout: 10000 }, async t => {
  await db.scope(async (session) => {
    const stream = session.stream(numbers, [100], { batchSize: 2 })
    await session.query('SELECT 1')
    await t.rejects(session.transaction(async () => {
      await session.query('SELECT 1/0').catch(() => {})
      await stream.toArray()
    }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
    t.same((await session.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  })
})

t.test('a stream called from outside waits for the savepoint\'s end, and does not go with it', async t => {
  await db.scope(async (session) => {
    const inner = session.transaction(async () => {
      await session.query('SELECT 1')
      await sleep(20)
      throw new Error('no')
    })
    const outside = session.stream(numbers, [100], { batchSize: 10 })
    const abandoned = session.stream(numbers, [100], { batchSize: 10 })
    abandoned.destroy()
    await t.rejects(inner, { message: 'no' })
    t.same(await outside.toArray(), upTo(100))
    t.equal(await cursors(session), 0)
  })
})

t.test('a stream that is not read ends with the session, without an uncaught error', async t => {
  let stream!: ReturnType<Session['stream']>
  await db.scope(async (session) => {
    stream = session.stream(numbers, [10_000])
    await session.query('SELECT 1')
  })
  t.equal(stream.destroyed, true)
  t.match(stream.errored, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  await db.scope((session) => { stream = session.stream(numbers, [10_000]) })
  t.equal(stream.destroyed, true)
})

t.test('commit() by hand ends a stream, and the next transaction is not harmed by it', async t => {
  await db.scope(async (session) => {
    const stream = session.stream(numbers, [1000], { batchSize: 5 })
    const read = stream.toArray().catch((error) => error)
    await session.query('SELECT 1')
    const committed = session.commit()
    t.same((await session.query('SELECT 2 AS a')).rows, [{ a: 2 }])
    await committed
    t.match(await read, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
    await sleep(20)
    t.equal(session.state, 'active')
  })
})

t.test('a reader is told when its session is closed under it', async t => {
  const session = db.session()
  const stream = session.stream(numbers, [100_000], { batchSize: 10 })
  await t.rejects((async () => {
    for await (const { i } of stream) if (i === 50) await session.close()
  })(), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
})

t.test('a connection that dies in the middle breaks the stream, and is never handed on', async t => {
  await t.rejects(db.scope(async (session) => {
    for await (const { i } of session.stream(numbers, [100_000], { batchSize: 10 })) if (i === 50) proxy.cut()
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', statusCode: 503 })
  t.same((await db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
})

t.test('no error went uncaught, and every connection came back', async t => {
  await sleep(20)
  await waitFor(() => db.stats().inUse === 0)
  t.same(unhandled, [])
})
