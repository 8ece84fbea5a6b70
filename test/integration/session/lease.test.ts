import t from 'tap'
import Fastify from 'fastify'
import pg from 'pg'
import { once } from 'node:events'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Connection } from 'pg'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2 } })
t.teardown(() => app.close())
const { db } = app
const backends = async (): Promise<number[]> => (await postgres.activity()).map(({ pid }) => pid)

onlyDirect(t, 'LISTEN hears nothing in transaction mode').test('LISTEN and NOTIFY work', async t => {
  await db.lease(async (client) => {
    await client.query('LISTEN news')
    const told = once(client as unknown as pg.Client, 'notification')
    await db.query('NOTIFY news, \'hello\'')
    t.match(await told, [{ channel: 'news', payload: 'hello' }])
  })
})

t.test('fn\'s result comes back, and its error as it is', async t => {
  t.equal(await db.lease(() => 7), 7)
  const mine = new Error('mine')
  await t.rejects(db.lease(() => { throw mine }), mine)
  t.equal(db.stats().inUse, 0)
})

t.test('its connection is ended afterwards, so that nothing which was set on it reaches another session', async t => {
  let pid!: number
  await db.lease(async (client) => {
    pid = (await client.query('SELECT pg_backend_pid() AS pid, set_config(\'app.secret\', \'x\', false)')).rows[0].pid
    await client.query('BEGIN; INSERT INTO things VALUES (\'never committed\')')
    t.ok((await backends()).includes(pid))
  })
  await waitFor(async () => !(await backends()).includes(pid))
  t.equal((await db.query('SELECT current_setting(\'app.secret\', true) AS a')).rows[0].a, null)
  t.equal((await postgres.query('SELECT * FROM things')).rowCount, 0)
})

t.test('it counts against max', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2, acquireTimeout: 2000 } })
  t.teardown(() => app.close())
  const { db } = app
  const over = new AbortController()
  const held = [1, 2].map(() => db.lease(() => once(over.signal, 'abort')))
  await waitFor(() => db.stats().inUse === 2)
  await Promise.all([
    t.rejects(db.query('SELECT 1'), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED', statusCode: 503 }),
    t.rejects(db.lease(() => t.fail('it ran')), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
  ])
  over.abort()
  await Promise.all(held)
  t.match(db.stats(), { inUse: 0 })
  t.equal((await db.query('SELECT 1')).rowCount, 1)
})

t.test('a Submittable that writes the protocol itself runs, as pg-cursor does', async t => {
  await db.lease(async (client) => {
    const rows: unknown[] = []
    await new Promise<void>((resolve, reject) => {
      client.query({
        submit (connection: Connection & Record<'parse' | 'bind' | 'describe' | 'execute', (config: object) => void> & { sync: () => void }) {
          connection.parse({ text: 'SELECT generate_series(1, 3) AS a' })
          connection.bind({})
          connection.describe({ type: 'P' })
          connection.execute({ rows: 2 })
          connection.sync()
        },
        handleRowDescription () {},
        handleDataRow: ({ fields }: { fields: unknown[] }) => rows.push(...fields),
        handlePortalSuspended () {},
        handleCommandComplete () {},
        handleError: reject,
        handleReadyForQuery: resolve
      } as unknown as pg.Submittable)
    })
    t.same(rows.map(String), ['1', '2'])
  })
})

t.test('COPY FROM STDIN takes what is sent to it', async t => {
  await db.lease(async (client) => {
    await new Promise<void>((resolve, reject) => {
      client.query({
        submit: (connection: { query: (text: string) => void }) => connection.query('COPY things FROM STDIN'),
        handleCopyInResponse (connection: { sendCopyFromChunk: (chunk: Buffer) => void, endCopyFrom: () => void }) {
          connection.sendCopyFromChunk(Buffer.from('one\ntwo\n'))
          connection.endCopyFrom()
        },
        handleCommandComplete () {},
        handleError: reject,
        handleReadyForQuery: resolve
      } as unknown as pg.Submittable)
    })
  })
  t.same((await db.query('SELECT name FROM things ORDER BY 1')).rows, [{ name: 'one' }, { name: 'two' }])
})

t.test('a user may end the client; the pool is none the worse', async t => {
  await db.lease((client) => (client as unknown as pg.Client).end())
  await db.lease(async (client) => { (client as unknown as pg.Client).end() })
  await waitFor(() => db.stats().inUse === 0)
  t.equal((await db.query('SELECT 1')).rowCount, 1)
})

onlyDirect(t, 'PgBouncer hides the death of a backend').test('a backend that dies under a lease ends neither the process nor the pool', async t => {
  await t.rejects(db.lease(async (client) => {
    const { rows: [{ pid }] } = await client.query('SELECT pg_backend_pid() AS pid')
    await postgres.query('SELECT pg_terminate_backend($1, 1000)', [pid])
    await client.query('SELECT 1')
  }), Error)
  t.equal((await db.query('SELECT 1')).rowCount, 1)
  t.equal(db.stats().inUse, 0)
})

t.test('what is no function is refused', async t => {
  await t.rejects(db.lease(undefined as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /got undefined/ })
})

t.test('close() waits for a lease, and a closed engine gives none', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString })
  let finish!: () => void
  const lease = app.db.lease(async (client) => {
    await new Promise<void>((resolve) => { finish = resolve })
    return (await client.query('SELECT 1 AS a')).rows
  })
  await waitFor(() => finish)
  const closed = app.close()
  finish()
  t.same(await lease, [{ a: 1 }])
  await closed
  await t.rejects(app.db.lease(() => {}), { code: 'FST_PG_SCOPE_CLOSED' })
})
