// What pg-copy-streams, pg-cursor and pg-query-stream do on a client of pg's own they do on a leased one. An
// exception that nobody catches fails the file.
import t from 'tap'
import Fastify from 'fastify'
import type pg from 'pg'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as turn } from 'node:timers/promises'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE copied (id int, name text); CREATE TABLE numbered (n int)')
const logged: string[] = []
const app = Fastify({ logger: { level: 'error', stream: { write: (line: string) => { logged.push(line) } } } })
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 1 } })
t.teardown(() => app.close())
const { db } = app

// With one connection, each test shows that the lease of the one before has come back.
t.beforeEach(() => { logged.length = 0 })
t.afterEach(async () => {
  assert.deepEqual((await db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  assert.equal(db.stats().inUse, 0)
})

/** More than the socket and every stream in between hold, so that both sides have to wait for each other. */
const many = 300_000
const longTable = `SELECT n, repeat('x', 40) FROM generate_series(1, ${many}) AS n`

/** Counts what is written to it, and takes its time every now and then. */
function slowSink (): Writable & { bytes: number, lines: number } {
  let writes = 0
  const sink = new Writable({
    highWaterMark: 1024,
    write (chunk: Buffer, _encoding, done) {
      sink.bytes += chunk.length
      for (const byte of chunk) if (byte === 10) sink.lines++
      if (writes++ % 20 === 0) setTimeout(done, 1)
      else done()
    }
  }) as Writable & { bytes: number, lines: number }
  sink.bytes = sink.lines = 0
  return sink
}

function * lines (count: number): Generator<string> {
  for (let i = 1; i <= count; i += 100) {
    let chunk = ''
    for (let line = i; line < i + 100 && line <= count; line++) chunk += `${line}\t${'y'.repeat(40)}\n`
    yield chunk
  }
}

const countOf = async (client: { query (text: string): Promise<pg.QueryResult> }, table: string): Promise<number> => Number((await client.query(`SELECT count(*) AS n FROM ${table}`)).rows[0].n)

t.test('COPY TO sends more than any buffer holds, to a reader slower than the server', async t => {
  await db.lease(async (client) => {
    const sink = slowSink()
    const stream = client.query(copyTo(`COPY (${longTable}) TO STDOUT`))
    await pipeline(stream, sink)
    t.equal(sink.lines, many)
    t.equal(stream.rowCount, many)
    t.same((await client.query('SELECT 2 AS b')).rows, [{ b: 2 }])
  })
})

t.test('COPY FROM takes more than any buffer holds', async t => {
  await db.lease(async (client) => {
    await client.query('TRUNCATE copied')
    const stream = client.query(copyFrom('COPY copied FROM STDIN'))
    await pipeline(Readable.from(lines(many)), stream)
    t.equal(stream.rowCount, many)
    t.equal(await countOf(client, 'copied'), many)
  })
  t.equal(await countOf(postgres, 'copied'), many)
})

t.test('both directions work in a row on one lease, and between other statements', async t => {
  await db.lease(async (client) => {
    await client.query('TRUNCATE copied')
    for (let i = 1; i <= 3; i++) {
      await pipeline(Readable.from(lines(1000)), client.query(copyFrom('COPY copied FROM STDIN')))
      const sink = slowSink()
      await pipeline(client.query(copyTo('COPY copied TO STDOUT')), sink)
      t.equal(sink.lines, 1000 * i)
      t.same((await client.query('SELECT $1::int AS i', [i])).rows, [{ i }])
    }
    await pipeline(client.query(copyTo('COPY (SELECT 1 WHERE false) TO STDOUT')), slowSink())
    await pipeline(Readable.from([]), client.query(copyFrom('COPY copied FROM STDIN')))
    t.equal(await countOf(client, 'copied'), 3000)
  })
})

t.test('statements that are called while a COPY runs wait for its end', async t => {
  await db.lease(async (client) => {
    const sink = slowSink()
    const copied = pipeline(client.query(copyTo(`COPY (${longTable}) TO STDOUT`)), sink)
    const others = [1, 2, 3].map((a) => client.query('SELECT $1::int AS a', [a]))
    t.same((await Promise.all(others)).map(({ rows }) => rows[0].a), [1, 2, 3])
    await copied
    t.equal(sink.lines, many)
  })
})

t.test('a COPY that fails rejects, and the lease goes on', async t => {
  await db.lease(async (client) => {
    await t.rejects(pipeline(client.query(copyTo('COPY nothing_there TO STDOUT')), slowSink()), { code: '42P01' })
    await t.rejects(pipeline(client.query(copyTo(`COPY (SELECT 1000 / (1000 - n) FROM generate_series(1, ${many}) AS n) TO STDOUT`)), slowSink()), { code: '22012' }, 'after rows were sent')
    t.same((await client.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    const failing = client.query(copyFrom('COPY numbered FROM STDIN'))
    const failed = once(failing, 'error')
    failing.end('1\nno number\n')
    t.match((await failed.catch((error: unknown) => [error]))[0], { code: '22P02' })
    t.same((await client.query('SELECT 2 AS b')).rows, [{ b: 2 }])
    t.equal(await countOf(client, 'numbered'), 0)
  })
})

t.test('COPY FROM whose source fails saves nothing, and the lease goes on', async t => {
  await db.lease(async (client) => {
    await client.query('TRUNCATE copied')
    const mine = new Error('mine')
    const source = Readable.from((function * () {
      yield * lines(10)
      throw mine
    })())
    const stream = client.query(copyFrom('COPY copied FROM STDIN'))
    await t.rejects(pipeline(source, stream), /mine/)
    await waitFor(() => stream.closed)
    t.equal(await countOf(client, 'copied'), 0)
  })
})

t.test('pg-cursor reads in parts, to its end, and is closed early', async t => {
  await db.lease(async (client) => {
    const cursor = client.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, $1::int) AS n', [5]))
    t.same(await cursor.read(2), [{ n: 1 }, { n: 2 }])
    t.same(await cursor.read(2), [{ n: 3 }, { n: 4 }])
    t.same(await cursor.read(2), [{ n: 5 }])
    t.same(await cursor.read(2), [])
    await cursor.close()
    const arrays = client.query(new Cursor('SELECT n, n FROM generate_series(1, 100) AS n', [], { rowMode: 'array' }))
    t.same(await arrays.read(1), [[1, 1]])
    await arrays.close()
    t.same((await client.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    const failing = client.query(new Cursor('SELECT 1 / (3 - n) AS q FROM generate_series(1, 5) AS n'))
    t.same(await failing.read(1), [{ q: 0 }])
    await t.rejects(failing.read(5), { code: '22012' })
    t.same((await client.query('SELECT 2 AS b')).rows, [{ b: 2 }])
    await t.rejects(client.query(new Cursor('SELECT nothing_there')).read(1), { code: '42703' })
    t.same((await client.query('SELECT 3 AS c')).rows, [{ c: 3 }])
  })
})

t.test('pg-query-stream is read to its end, and left early', async t => {
  await db.lease(async (client) => {
    let sum = 0
    for await (const { n } of client.query(new QueryStream('SELECT n FROM generate_series(1, $1::int) AS n', [20_000], { batchSize: 100 }))) sum += n
    t.equal(sum, 20_000 * 20_001 / 2)
    for await (const { n } of client.query(new QueryStream('SELECT n FROM generate_series(1, 1000000) AS n'))) if (n === 150) break
    t.same((await client.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    await t.rejects(client.query(new QueryStream('SELECT 1 / (500 - n) FROM generate_series(1, 1000) AS n')).toArray(), { code: '22012' })
    t.same((await client.query('SELECT 2 AS b')).rows, [{ b: 2 }])
  })
})

t.test('named statements, callbacks, events and several statements in one text work as in pg', async t => {
  await db.lease(async (client) => {
    await client.query('BEGIN')
    for (const a of [1, 2, 3]) t.same((await client.query({ name: 'mine', text: 'SELECT $1::int AS a', values: [a] })).rows, [{ a }])
    await client.query('COMMIT')
    const result = await new Promise<pg.QueryResult>((resolve, reject) => client.query('SELECT 1 AS a', (error: Error, result) => error ? reject(error) : resolve(result)))
    t.same(result.rows, [{ a: 1 }])
    const failure = await new Promise((resolve) => client.query('SELECT $1::int', ['x'], (error: Error) => resolve(error)))
    t.match(failure, { code: '22P02' })
    const notice = once(client as unknown as pg.Client, 'notice')
    await client.query('DO $$ BEGIN RAISE NOTICE \'look\'; END $$')
    t.match(await notice, [{ message: 'look' }])
    const several = await client.query('SELECT 1 AS a; SELECT 2 AS b') as unknown as pg.QueryResult[]
    t.same(several.map(({ rows }) => rows), [[{ a: 1 }], [{ b: 2 }]])
    t.same((await client.query({ text: 'SELECT 1 AS a, 2 AS a', rowMode: 'array' })).rows, [[1, 2]])
  })
})

onlyDirect(t, 'LISTEN hears nothing in transaction mode').test('notifications come while a cursor and a COPY are used', async t => {
  await db.lease(async (client) => {
    const heard: (string | undefined)[] = []
    client.on('notification', ({ payload }) => heard.push(payload))
    await client.query('LISTEN news')
    const cursor = client.query(new Cursor('SELECT generate_series(1, 10)'))
    await cursor.read(1)
    await postgres.query('NOTIFY news, \'1\'')
    await cursor.close()
    await waitFor(async () => (await client.query('SELECT 1')) && heard.length === 1)
    await pipeline(client.query(copyTo(`COPY (${longTable}) TO STDOUT`)), slowSink())
    await postgres.query('NOTIFY news, \'2\'')
    await waitFor(() => heard.length === 2)
    t.same(heard, ['1', '2'])
  })
})

const mine = new Error('mine')
/** What fn may leave behind, unfinished. */
const unfinished: Record<string, (client: Parameters<Parameters<typeof db.lease>[0]>[0]) => unknown> = {
  'a COPY TO': async (client) => { await once(client.query(copyTo(`COPY (${longTable}) TO STDOUT`)), 'readable') },
  'a COPY TO that nobody reads': (client) => { client.query(copyTo(`COPY (${longTable}) TO STDOUT`)) },
  'a COPY FROM': (client) => { client.query(copyFrom('COPY copied FROM STDIN')).write('1\tx\n') },
  'a pg-cursor': async (client) => { await client.query(new Cursor(longTable)).read(1) },
  'a pg-query-stream': async (client) => { await once(client.query(new QueryStream(longTable)), 'readable') },
  'a pg-query-stream that is being read': (client) => { client.query(new QueryStream(longTable)).resume() },
  'streams that wait for others': (client) => {
    for (let i = 0; i < 2; i++) {
      client.query(new QueryStream(longTable)).resume()
      client.query(copyTo(`COPY (${longTable}) TO STDOUT`)).resume()
      client.query(copyFrom('COPY copied FROM STDIN')).end('1\tx\n')
    }
  }
}
for (const [name, leave] of Object.entries(unfinished)) {
  t.test(`fn that returns, or throws, and leaves ${name} behind harms no other session`, async t => {
    t.equal(await db.lease(async (client) => {
      await leave(client)
      return 7
    }), 7)
    await t.rejects(db.lease(async (client) => {
      await leave(client)
      throw mine
    }), mine)
    await t.rejects(db.lease((client) => {
      Promise.resolve(leave(client)).catch(() => {})
      throw mine
    }), mine)
    await turn()
    t.same(logged, [], 'it is fn that ended them')
  })
}

/** What may be under way when a connection dies. It must reject, or end. */
const underWay: Record<string, (
  client: Parameters<Parameters<typeof db.lease>[0]>[0], kill: () => Promise<void>
) => Promise<unknown>> = {
  'a COPY TO': async (client, kill) => {
    const stream = client.query(copyTo(`COPY (${longTable}) TO STDOUT`))
    await once(stream, 'readable')
    await kill()
    await pipeline(stream, slowSink())
  },
  'a COPY FROM': async (client, kill) => {
    await pipeline(Readable.from((async function * () {
      yield * lines(1000)
      await kill()
      yield * lines(many)
    })()), client.query(copyFrom('COPY copied FROM STDIN')))
  },
  'a pg-cursor': async (client, kill) => {
    const cursor = client.query(new Cursor(longTable))
    await cursor.read(10)
    await kill()
    await cursor.read(10)
  },
  'a pg-query-stream': async (client, kill) => {
    const stream = client.query(new QueryStream(longTable))
    await once(stream, 'readable')
    await kill()
    stream.resume()
    // It waits for ever for an answer to its Close, as on a client of pg's own.
    throw await waitFor(() => stream.errored)
  },
  'a statement': async (client, kill) => {
    const answer = client.query('SELECT pg_sleep(60)')
    await Promise.all([answer, kill()])
  },
  'a COPY TO without a listener for errors': async (client, kill) => {
    const stream = client.query(copyTo(`COPY (${longTable}) TO STDOUT`))
    await once(stream, 'readable')
    await kill()
    stream.resume()
    await waitFor(() => logged.some((line) => /leased client failed/.test(line)))
    throw mine
  },
  nothing: async (client, kill) => {
    await kill()
    await client.query('SELECT 1')
  }
}
for (const [name, run] of Object.entries(underWay)) {
  onlyDirect(t, 'the backend behind PgBouncer is another').test(`a backend that is terminated under ${name} ends that lease and nothing else`, async t => {
    await t.rejects(db.lease(async (client) => {
      const { rows: [{ pid }] } = await client.query('SELECT pg_backend_pid() AS pid')
      await run(client, async () => { await postgres.query('SELECT pg_terminate_backend($1, 5000)', [pid]) })
    }))
  })
  t.test(`a socket that breaks under ${name} ends that lease and nothing else`, async t => {
    await t.rejects(db.lease(async (client) => {
      await run(client, async () => {
        const { stream } = (client as unknown as { connection: { stream: import('node:net').Socket } }).connection
        stream.destroy(new Error('broken'))
      })
    }))
  })
}

t.test('a lease whose connection is lost does not count against max, although fn goes on', async t => {
  let finish!: () => void
  const lease = db.lease(async (client) => {
    const { stream } = (client as unknown as { connection: { stream: import('node:net').Socket } }).connection
    stream.destroy()
    await new Promise<void>((resolve) => { finish = resolve })
    return (client.query('SELECT 1') as Promise<unknown>).catch((error: Error) => error.message)
  })
  await waitFor(() => finish !== undefined && db.stats().inUse === 0)
  t.same((await db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  finish()
  t.match(await lease, /not queryable/)
})

t.test('close() waits no longer than closeTimeout for a lease whose connection is lost', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, closeTimeout: 200 })
  let finish!: () => void
  const lease = app.db.lease(async (client) => {
    (client as unknown as { connection: { stream: import('node:net').Socket } }).connection.stream.destroy()
    await new Promise<void>((resolve) => { finish = resolve })
  })
  await waitFor(() => finish !== undefined && app.db.stats().inUse === 0)
  await app.close()
  finish()
  await lease
  t.pass()
})
