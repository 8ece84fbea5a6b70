import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo, Socket } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PoolOptions } from '../../../lib/index.ts'
import { send } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { greedy, type Handler, harmless, many, pause, pipelined } from './deadlock-cases.ts'

const db = await startTestPostgres(t)
const { connectionString } = db

/** Whoever waits in vain waits for this long: what is refused at once is refused well before. Milliseconds. */
const acquireTimeout = 20000

async function setUp (t: Test, pool: PoolOptions, ...handlers: Handler[]) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, exposeErrors: true, pool: { acquireTimeout, ...pool } })
  for (const { handle, config } of handlers) {
    app.get('/', { ...(config && { config: { db: config } }) }, async (request) => {
      await handle(request, app)
      return { ok: true }
    })
  }
  return app
}

type App = Awaited<ReturnType<typeof setUp>>

/** The time that work takes, in milliseconds. */
async function timed<T> (work: Promise<T>): Promise<[T, number]> {
  const start = performance.now()
  return [await work, performance.now() - start]
}

async function quiet (t: Test, app: App): Promise<void> {
  await waitFor(() => app.db.stats().inUse + app.db.stats().waiting === 0, { message: 'every connection has come back' })
  t.equal(app.db.stats().counters.timedOut, 0)
}

for (const strategy of strategies) {
  t.test(`strategy '${strategy}': when every connection is held by work that waits for another one, the newest is refused at once`, async (t) => {
    for (const handler of greedy) {
      await t.test(handler.name, async (t) => {
        const app = await setUp(t, { strategy, max: 3 }, handler)
        await app.listen({ port: 0 })
        const [answers, time] = await timed(many(app, '/', 3))
        t.ok(time < acquireTimeout / 2, `${Math.round(time)} ms`)
        const refused = answers.filter(({ status }) => status !== 200)
        t.equal(refused.length, 1, 'the others go on')
        for (const { status, headers, body } of refused) {
          t.equal(status, 503)
          t.equal(headers['retry-after'], '1')
          t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_POOL_DEADLOCK', message: /All 3 connections are held by work that waits for a second one.*request\.db.*pool\.max/ })
        }
        t.equal(app.db.stats().counters.refused, 1)
        await quiet(t, app)
      })
    }

    await t.test('all are served or refused where there are many more than connections', async (t) => {
      const app = await setUp(t, { strategy, max: 3 }, greedy[0]!)
      await app.listen({ port: 0 })
      const [answers, time] = await timed(many(app, '/', 30))
      t.ok(time < acquireTimeout / 2, `${Math.round(time)} ms`)
      const served = answers.filter(({ status }) => status === 200).length
      t.ok(served >= 15, `${served} of 30 are served`)
      t.ok(answers.every(({ status, body }) => status === 200 || JSON.parse(body).code === 'FST_PG_SCOPE_POOL_DEADLOCK'))
      await quiet(t, app)
    })

    await t.test('after many requests that asked for one connection only, as soon as one has asked for a second', async (t) => {
      const app = await setUp(t, { strategy, max: 3 }, greedy[0]!)
      app.get('/modest', async (request) => (await request.db.query('SELECT 1')).rows)
      await app.listen({ port: 0 })
      await Promise.all(Array.from({ length: 50 }, () => app.inject('/modest')))
      t.equal((await app.inject('/')).statusCode, 200)
      const [answers, time] = await timed(many(app, '/', 3))
      t.ok(time < acquireTimeout / 2, `${Math.round(time)} ms`)
      t.equal(answers.filter(({ status }) => status !== 200).length, 1)
      await quiet(t, app)
    })

    await t.test('a single connection, asked for twice at once', async (t) => {
      const app = await setUp(t, { strategy, max: 1 }, {
        name: '',
        async handle (request) { await Promise.all([request.db.query('SELECT 1'), app.db.query('SELECT 1')]) }
      })
      const [answer, time] = await timed(app.inject('/'))
      t.ok(time < acquireTimeout / 2)
      t.match(answer.json(), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' })
      await quiet(t, app)
    })

    await t.test('work inside of work inside of work', async (t) => {
      const app = await setUp(t, { strategy, max: 2 })
      const nested = (depth: number): Promise<unknown> => app.db.scope(async (session) => {
        await session.query('SELECT 1')
        if (depth > 1) await nested(depth - 1)
      })
      await nested(2)
      const [, time] = await timed(t.rejects(nested(3), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' }))
      t.ok(time < acquireTimeout / 2)
      await quiet(t, app)
    })
  })

  t.test(`strategy '${strategy}': every request that can be served is served`, async (t) => {
    for (const handler of harmless) {
      await t.test(handler.name, async (t) => {
        const app = await setUp(t, { strategy, max: 2 }, handler)
        await app.listen({ port: 0 })
        const answers = await many(app, '/', 12)
        t.same(answers.filter(({ status }) => status !== 200).map(({ body }) => body), [])
        await quiet(t, app)
        t.equal(app.db.stats().counters.refused, 0)
      })
    }

    await t.test('work that needs two connections, while one is free', async (t) => {
      for (const handler of greedy) {
        const app = await setUp(t, { strategy, max: 4 }, handler)
        await app.listen({ port: 0 })
        const answers = await many(app, '/', 3)
        t.same(answers.filter(({ status }) => status !== 200).map(({ body }) => body), [], handler.name)
        await quiet(t, app)
      }
    })

    await t.test('work that needs two connections, while a session that waits for none holds one', async (t) => {
      const app = await setUp(t, { strategy, max: 2 }, greedy[0]!)
      await app.listen({ port: 0 })
      const session = app.db.session()
      await session.query('SELECT 1')
      const answer = many(app, '/', 1)
      // With one connection in use it is the request's own that is still being opened.
      await waitFor(() => app.db.stats().inUse === 2 && app.db.stats().waiting === 1)
      await sleep(3 * pause)
      t.equal(app.db.stats().waiting, 1)
      await session.close()
      t.equal((await answer)[0]!.status, 200)
      await quiet(t, app)
    })

    await t.test('sessions opened by hand side by side', async (t) => {
      const app = await setUp(t, { strategy, max: 2 })
      const sessions = Array.from({ length: 5 }, () => app.db.session())
      await Promise.all(sessions.map(async (session) => {
        await session.query('SELECT 1')
        await sleep(pause)
        await session.close()
      }))
      await quiet(t, app)
    })

    await t.test('the next request of a socket is not the work of the one before', async (t) => {
      const app = await setUp(t, { strategy, max: 1 }, harmless[0]!)
      await app.listen({ port: 0 })
      const { port } = app.server.address() as AddressInfo
      let socket: Socket | undefined
      for (let i = 0; i < 4; i++) {
        // Somebody else holds the only connection, so that this one waits.
        const other = app.db.session()
        await other.query('SELECT 1')
        const answer = send(port, { keepAlive: true, ...(socket && { socket }) })
        await waitFor(() => app.db.stats().waiting === 1)
        await sleep(pause)
        await other.close()
        const response = await answer
        t.equal(response.status, 200)
        t.equal(response.socket.destroyed, false)
        socket = response.socket
      }
      socket?.destroy()
      await quiet(t, app)
    })

    await t.test('requests that come behind each other on one socket, without waiting for answers', async (t) => {
      const app = await setUp(t, { strategy, max: 1 }, harmless[0]!)
      await app.listen({ port: 0 })
      t.same(await pipelined(app, '/', 4), [200, 200, 200, 200])
      await quiet(t, app)
    })

    await t.test('a wait for another engine is no wait for this one', async (t) => {
      const app = await setUp(t, { strategy, max: 1 }, {
        name: '',
        async handle (request) {
          await request.db.query('SELECT 1')
          await app.reporting.query('SELECT 1')
          await request.reporting.query('SELECT 1')
          await sleep(pause)
          await request.db.query('SELECT 1')
        }
      })
      await app.register(pgScope, { connectionString, decorator: 'reporting', pool: { strategy, max: 1, acquireTimeout } })
      await app.listen({ port: 0 })
      // The other engine's only connection is somebody else's for a while.
      const other = app.reporting.session()
      await other.query('SELECT 1')
      const answers = many(app, '/', 1)
      await waitFor(() => app.reporting.stats().waiting === 1)
      const rest = many(app, '/', 2)
      await waitFor(() => app.db.stats().waiting === 2)
      await sleep(2 * pause)
      await other.close()
      t.same([...await answers, ...await rest].map(({ status }) => status), [200, 200, 200])
      await quiet(t, app)
    })
  })
}

declare module 'fastify' {
  interface FastifyInstance { reporting: FastifyInstance['db'] }
  interface FastifyRequest { reporting: FastifyRequest['db'] }
}
