// The sandbox over real sockets: streams, hang-ups, cancelled statements, and raw clients with their own protocol.
import t from 'tap'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { openRequest, send } from '../../../harness/http-client.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { openSandbox } from '../../../lib/testing/index.ts'
import type { RawClient } from '../../../types/engine.ts'
import { named, sandboxDatabase } from './sandbox-app.ts'

const { postgres, openApp, outside } = await sandboxDatabase(t)
const sleeping = async (): Promise<boolean> => (await postgres.activity()).some(({ state, query }) => state === 'active' && query.includes('pg_sleep'))

for (const strategy of strategies) {
  t.test(`strategy ${strategy}`, async (t) => {
    const { app, run, inside } = await openApp(t, { pool: { strategy } })
    app.get('/stream', (request, reply) => reply.send(request.db.stream('SELECT generate_series(1, 1000) AS n')))
    app.get('/endless', (request, reply) => reply.send(request.db.stream('SELECT n, repeat(\'x\', 1000) FROM generate_series(1, 1000000) AS n')))
    app.get('/slow', async (request) => {
      await request.db.query(named('lost'))
      await request.db.query('SELECT pg_sleep(60)')
    })
    app.get('/limited', { config: { db: { statementTimeout: 50 } } }, async (request) => {
      await request.db.query(named('late'))
      await request.db.query('SELECT pg_sleep(60)')
    })
    const sandbox = await openSandbox(app)
    await app.listen({ port: 0 })
    const { port } = app.server.address() as AddressInfo
    t.afterEach(() => sandbox.rollback())

    t.test('rows are streamed, and a client that leaves ends only its own request', async (t) => {
      const { status, body } = await send(port, { path: '/stream' })
      t.equal(status, 200)
      t.equal(body.toString().trim().split('\n').length, 1000)
      await run(named('a'))
      const { socket, read } = openRequest(port, { path: '/endless' })
      await waitFor(() => read().body.length > 0)
      socket.destroy()
      t.same(await inside(), ['a'])
    })

    t.test('a hang-up cancels the running statement and rolls back', async (t) => {
      await run(named('a'))
      const { socket } = openRequest(port, { path: '/slow' })
      await waitFor(sleeping)
      const { canceled } = app.db.stats().counters
      socket.destroy()
      await waitFor(async () => !await sleeping())
      t.same(await inside(), ['a'])
      t.equal(app.db.stats().counters.canceled, canceled + 1)
    })

    t.test('a statement that is cancelled by its limit, its signal or the end of its session harms no other', async (t) => {
      await run(named('a'))
      t.equal((await send(port, { path: '/limited' })).status, 500)
      const { db } = app
      await t.rejects(db.query({ text: 'SELECT pg_sleep(60)', signal: AbortSignal.timeout(50) }), { code: 'FST_PG_SCOPE_CANCELED' })
      const session = db.session()
      const result = session.query('SELECT pg_sleep(60)').catch(({ code }) => code)
      await waitFor(sleeping)
      await session.close()
      t.equal(await result, 'FST_PG_SCOPE_SESSION_CLOSED')
      await waitFor(async () => !await sleeping())
      t.same(await inside(), ['a'])
    })

    t.test('concurrent requests over sockets get their own answers', async (t) => {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) =>
        send(port, { path: '/run', body: [named(`thing ${i}`), `SELECT ${i} AS n`] })))
      t.same(answers.map(({ body }) => JSON.parse(body.toString())), answers.map((_, n) => [{ n }]))
    })

    t.test('a leased client begins, commits and rolls back inside of the sandbox', async (t) => {
      await app.db.lease(async (client) => {
        await client.query('BEGIN')
        await client.query(named('a'))
        await client.query('SAVEPOINT mine')
        await t.rejects(client.query(named('a')), { code: '23505' })
        await client.query('ROLLBACK TO mine')
        t.equal((await client.query('COMMIT')).command, 'COMMIT')
        await client.query('START TRANSACTION READ ONLY')
        await t.rejects(client.query(named('b')), { code: '25006' })
        t.equal((await client.query('COMMIT')).command, 'ROLLBACK', 'as it has failed')
        await client.query({ name: 'begin', text: 'BEGIN' })
        await client.query({ name: 'insert', text: 'INSERT INTO things VALUES ($1)', values: ['c'] })
        await client.query({ name: 'rollback', text: 'ROLLBACK' })
        await client.query(`BEGIN; ${named('d')}; END; ${named('e')}; ROLLBACK; ${named('f')}`)
        await client.query('BEGIN')
        await client.query(named('g'))
        await client.query('COMMIT AND CHAIN')
        await client.query(named('h'))
        await client.query('ROLLBACK AND CHAIN')
        await client.query(named('i'))
        await t.rejects(client.query('PREPARE TRANSACTION \'x\''), { code: '0A000', message: /sandbox/ })
        await t.rejects(client.query('BEGIN'), { code: '25P02' })
        await client.query('ABORT')
        await client.query("CREATE FUNCTION two() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 'COMMIT; x', $$; END;$$")
        t.same((await client.query('SELECT two()')).rows, [{ two: 2 }])
        await client.query('BEGIN')
        await client.query(named('lost'))
      })
      t.same(await inside(), ['a', 'd', 'f', 'g'])
      t.same((await app.db.query('SELECT two()')).rows, [{ two: 2 }])
    })

    t.test('state of a leased client ends with it', async (t) => {
      await app.db.lease(async (client) => {
        await client.query('SET search_path = nowhere')
        await client.query('CREATE TEMP TABLE mine (a int)')
        await client.query('PREPARE mine AS SELECT 1')
        await client.query('DECLARE mine CURSOR WITH HOLD FOR SELECT 1')
        await client.query('SELECT pg_advisory_lock(42)')
        await client.query('DISCARD ALL')
        t.match((await client.query('SHOW search_path')).rows[0].search_path, /public/)
        await client.query('SELECT pg_advisory_lock(42)')
      })
      t.match((await app.db.query("SELECT to_regclass('mine') AS mine, (SELECT count(*)::int FROM pg_prepared_statements WHERE name = 'mine') AS prepared, (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS locks")).rows,
        [{ mine: null, prepared: 0, locks: 0 }])
    })

    t.test('pg-cursor, pg-query-stream and pg-copy-streams work on a leased client', async (t) => {
      const lease = <T>(fn: (client: RawClient) => Promise<T>): Promise<T> => app.db.lease(fn)
      await lease(async (client) => {
        const cursor = client.query(new Cursor('SELECT generate_series(1, 10) AS n'))
        t.equal((await cursor.read(4)).length, 4)
        t.equal((await cursor.read(4)).length, 4)
        await cursor.close()
        t.same((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }])
      })
      await lease(async (client) => {
        let count = 0
        for await (const row of client.query(new QueryStream('SELECT generate_series(1, 1000) AS n'))) count += row.n > 0 ? 1 : 0
        t.equal(count, 1000)
      })
      await lease(async (client) => {
        await pipeline(Readable.from(['a\n', 'b\n', 'c\n']), client.query(copyFrom('COPY things (name) FROM STDIN')))
        await t.rejects(pipeline(Readable.from(['a\n']), client.query(copyFrom('COPY things (name) FROM STDIN'))), { code: '23505' })
        t.equal(await text(client.query(copyTo('COPY things (name) TO STDOUT'))), 'a\nb\nc\n')
      })
      t.same(await inside(), ['a', 'b', 'c'])
      await t.rejects(app.db.query('COPY things (name) FROM STDIN'), { code: '57014' })
      t.same(await inside(), ['a', 'b', 'c'])
    })

    t.test('a lease that ends while its statement runs, or while it copies, ends that statement', async (t) => {
      await run(named('a'))
      await app.db.lease(async (client) => {
        client.query('SELECT pg_sleep(60)').catch(() => {})
        await waitFor(sleeping)
      })
      t.same(await inside(), ['a'])
      await app.db.lease(async (client) => {
        const copy = client.query(copyFrom('COPY things (name) FROM STDIN'))
        copy.on('error', () => {})
        copy.write('b\n')
        await waitFor(async () => (await postgres.activity()).some(({ query, state }) => state === 'active' && query.startsWith('COPY')))
      })
      t.same(await inside(), ['a'])
      await app.db.lease(async (client) => {
        const cursor = client.query(new Cursor('SELECT generate_series(1, 10) AS n'))
        await cursor.read(1)
      })
      t.same(await inside(), ['a'])
    })

    t.test('app.db.reset() replaces the connections of the app, and the sandbox goes on', async (t) => {
      await run(named('a'))
      await app.db.reset()
      t.same(await inside(), ['a'])
    })

    t.test('nothing of all that is left on the database', async (t) => {
      t.same(await outside(), [])
    })
  })
}
