// A CancelRequest travels on a socket of its own and hits whatever its connection runs when it arrives.
import Fastify, { type FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { openRequest } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import pgScope, { type PgScopeOptions, type Session } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { byStrategy } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)

/** Milliseconds: longer than what is cancelled still runs, and shorter than what comes behind it. */
const onItsWay = 350
const short = 'SELECT pg_sleep(0.2)'
const long = 'SELECT pg_sleep(0.7), 1 AS one'

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), ...options, pool: { max: 1, ...options.pool }
  })
  await app.db.query('SELECT 1')
  proxy.delayCancels(onItsWay)
  const running = (text = short): Promise<unknown> => waitFor(() => proxy.executed.includes(text), { interval: 1 })
  const listen = async (): Promise<number> => {
    await app.listen({ port: 0, host: '127.0.0.1' })
    return (app.server.address() as AddressInfo).port
  }
  /** Another session's statement, which gets the connection next. */
  const other = async (): Promise<void> => {
    const { rows } = await app.db.query(long)
    t.equal(rows[0].one, 1, 'the next statement on the connection is not hit')
  }
  return { app, proxy, running, listen, other }
}

/** A handler that answers while its statement still runs. */
const unawaited = async (request: { db: Session }): Promise<object> => {
  request.db.query(short).catch(() => {})
  return { ok: true }
}

for (const mode of ['transaction', 'autocommit'] as const) {
  t.test(`a cancel by a hang-up stops no other statement, in mode ${mode}`, async t => {
    const { app, running, listen, other } = await setUp(t)
    app.get('/', { config: { db: { mode } } }, unawaited)
    const { socket } = openRequest(await listen())
    await running()
    const next = other()
    socket.destroy()
    await next
  })

  t.test(`a cancel by handlerTimeout stops no other statement, in mode ${mode}`, async t => {
    const { app, running, listen, other } = await setUp(t)
    app.get('/', { handlerTimeout: 100, config: { db: { mode } } } as {}, async (request: any) => {
      await request.db.query(short)
      return { ok: true }
    })
    const { socket, response } = openRequest(await listen())
    // On a busy machine the time may be up before a new connection is open.
    await Promise.race([running().catch(() => {}), response])
    await Promise.all([other(), response])
    socket.destroy()
  })

  for (const awaited of [true, false]) {
    t.test(`a cancel by a signal stops no other statement, with a statement that is ${awaited ? '' : 'not '}awaited, in mode ${mode}`, async t => {
      const { app, running, other } = await setUp(t)
      const controller = new AbortController()
      const scope = app.db.scope(async (session) => {
        const statement = session.query(short)
        statement.catch(() => {})
        if (awaited) await statement
      }, { signal: controller.signal, mode })
      scope.catch(() => {})
      await running()
      const next = other()
      controller.abort()
      await next
      await Promise.allSettled([scope])
    })
  }

  t.test(`a cancel by close() of a session stops no other statement, in mode ${mode}`, async t => {
    const { app, running, other } = await setUp(t)
    const session = app.db.session({ mode })
    session.query(short).catch(() => {})
    await running()
    const next = other()
    await Promise.all([session.close(), next])
  })
}

t.test('a cancel during a rollback by hand stops no other statement', async t => {
  const { app, running, other } = await setUp(t)
  const controller = new AbortController()
  const session = app.db.session({ signal: controller.signal })
  session.query(short).catch(() => {})
  await running()
  const rollback = session.rollback()
  const next = other()
  controller.abort()
  await Promise.allSettled([rollback])
  await next
  await session.close()
})

t.test('a cancel during a commit by hand stops no other statement', async t => {
  const { app, running, other } = await setUp(t)
  const controller = new AbortController()
  const session = app.db.session({ signal: controller.signal })
  session.query(short).catch(() => {})
  await running()
  const commit = session.commit()
  const next = other()
  controller.abort()
  await Promise.allSettled([commit])
  await next
  await session.close()
})

t.test('a cancel by ping(), which waits no longer, stops no other statement', async t => {
  const { app, proxy, other } = await setUp(t)
  proxy.delay(20)
  const ping = app.db.ping(25)
  const next = other()
  await Promise.allSettled([ping])
  await next
})

t.test('a connection whose CancelRequest is not known to have arrived serves no other session', async t => {
  const { app, proxy, running } = await setUp(t)
  proxy.delayCancels(60000)
  const controller = new AbortController()
  const scope = app.db.scope((session) => session.query(short), { signal: controller.signal })
  scope.catch(() => {})
  await running()
  controller.abort()
  await t.rejects(scope, { code: 'FST_PG_SCOPE_CANCELED' })
  t.equal((await app.db.query(long)).rows[0].one, 1)
  t.equal(app.db.stats().counters.opened, byStrategy({ queue: 2, null: 3 }))
})
