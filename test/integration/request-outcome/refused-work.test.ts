import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

async function setUp (t: Test, options = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

t.test('a statement that got no connection, and was not awaited, is no success', async (t) => {
  const app = await setUp(t, { pool: { max: 1, acquireTimeout: 1000 } })
  app.post('/', async (request, reply) => {
    request.db.query('INSERT INTO note VALUES (\'never\')')
    return reply.code(201).send({ ok: true })
  })
  await app.db.scope(async (session) => {
    await session.query('SELECT 1')
    const { statusCode, headers } = await app.inject({ method: 'POST', url: '/' })
    t.equal(statusCode, 503)
    t.equal(headers['retry-after'], '1')
  })
  t.strictSame((await postgres.query('SELECT * FROM note')).rows, [])
})

t.test('settings(request) that throw are no success either', async (t) => {
  const app = await setUp(t, { settings: () => { throw new Error('no tenant') } })
  app.post('/', async (request, reply) => {
    request.db.query('INSERT INTO note VALUES (\'never\')').catch(() => {})
    return reply.code(201).send({ ok: true })
  })
  t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 500)
  t.strictSame((await postgres.query('SELECT * FROM note')).rows, [])
})

t.test('a handler that goes on after a hang-up with several statements at a time ends in no unhandled rejection', async (t) => {
  const app = await setUp(t)
  let through = false
  app.get('/', async (request) => {
    await sleep(100)
    const both = [request.db.query('SELECT 1'), request.db.query('SELECT 2'), request.db.transaction(async () => {})]
    await both[0]!.catch(() => {})
    await sleep(10)
    through = true
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  await hangUp((app.server.address() as { port: number }).port, { method: 'GET', path: '/' }, { after: 20 })
  await waitFor(() => through)
  t.strictSame(unhandled, [])
})

t.test('a hang-up stops a statement that the answer waits for, before COMMIT is written', async (t) => {
  const app = await setUp(t)
  app.post('/', async (request, reply) => {
    request.db.query('INSERT INTO note SELECT \'late\' FROM pg_sleep(60)').catch(() => {})
    return reply.code(201).send({ ok: true })
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  await hangUp((app.server.address() as { port: number }).port, { method: 'POST', path: '/', body: {} }, { after: 100 })
  await waitFor(async () => (await postgres.activity()).every(({ state }) => state === 'idle') && app.db.stats().inUse === 0)
  t.strictSame((await postgres.query('SELECT * FROM note')).rows, [])
})

t.test('handlerTimeout is heeded while the answer waits for a statement', async (t) => {
  const app = await setUp(t)
  app.get('/', { handlerTimeout: 200 }, async (request) => {
    request.db.query('SELECT pg_sleep(60)').catch(() => {})
    return { ok: true }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const start = performance.now()
  t.equal((await send((app.server.address() as { port: number }).port, { method: 'GET', path: '/' })).status, 503)
  t.ok(performance.now() - start < 30000)
})

t.test('a success that is sent from inside a transaction(fn) in which a statement has failed is refused', async (t) => {
  const app = await setUp(t)
  for (const commitOn of ['send', 'response'] as const) {
    app.post(`/${commitOn}`, { config: { db: { commitOn } } }, async (request, reply) => {
      await request.db.query('INSERT INTO note VALUES (\'never\')')
      await request.db.transaction(async (inner) => {
        await inner.query('SELECT 1/0').catch(() => {})
        reply.send({ ok: true })
      }).catch(() => {})
      return reply
    })
  }
  for (const commitOn of ['send', 'response']) {
    const { statusCode } = await app.inject({ method: 'POST', url: `/${commitOn}` })
    t.equal(statusCode, 500, commitOn)
  }
  t.strictSame((await postgres.query('SELECT * FROM note')).rows, [])
})

const successInside = (delay: number) => async (t: Test) => {
  await postgres.query('TRUNCATE note')
  const app = await setUp(t)
  if (delay > 0) app.addHook('onSend', () => sleep(delay))
  const endings: Record<string, (inner: Session, reply: FastifyReply) => unknown> = {
    'fn throws': async (inner, reply) => {
      await inner.query('INSERT INTO note VALUES (\'never\')')
      reply.send({ ok: true })
      throw new Error('after the answer')
    },
    'a statement fails': (inner, reply) => {
      inner.query('SELECT 1/0 FROM pg_sleep(0.1)')
      reply.send({ ok: true })
    },
    'the fn around it throws': async (inner, reply) => {
      await inner.transaction(() => { reply.send({ ok: true }) })
      throw new Error('after the answer')
    },
    'fn throws behind a body': (inner, reply) => {
      reply.send(Readable.from(['never']))
      throw new Error('after the answer')
    }
  }
  for (const mode of ['transaction', 'autocommit'] as const) {
    for (const [name, ending] of Object.entries(endings)) {
      app.post(`/${mode}/${name.replaceAll(' ', '-')}`, { config: { db: { mode } } }, async (request, reply) => {
        if (mode === 'transaction') await request.db.query('INSERT INTO note VALUES (\'never\')')
        await request.db.transaction((inner) => ending(inner, reply)).catch(() => {})
        return reply
      })
    }
  }
  app.post('/kept', async (request, reply) => {
    await using savepoint = await request.db.savepoint()
    await request.db.query('INSERT INTO note VALUES (\'kept\')')
    reply.send({ ok: true })
    await savepoint.rollback().catch(() => {})
    return reply
  })
  for (const mode of ['transaction', 'autocommit']) {
    for (const name of Object.keys(endings)) {
      const { statusCode } = await app.inject({ method: 'POST', url: `/${mode}/${name.replaceAll(' ', '-')}` })
      t.equal(statusCode, 500, `${mode}: ${name}`)
    }
  }
  t.strictSame((await postgres.query('SELECT * FROM note')).rows, [])
  if (delay > 0) return
  t.equal((await app.inject({ method: 'POST', url: '/kept' })).statusCode, 200)
  t.strictSame((await postgres.query('SELECT text FROM note')).rows, [{ text: 'kept' }], 'the end of a savepoint is the answer')
}

t.test('a success that is sent from inside a transaction(fn) is refused if its work is undone afterwards', successInside(0))
t.test('such a success is refused, too, if its work is undone while an onSend hook runs', successInside(100))

t.test('a result of a text that leaves a transaction open is no success', async (t) => {
  const app = await setUp(t)
  await t.rejects(app.db.query('SELECT 1; BEGIN; INSERT INTO note VALUES (\'lost\')'), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
})

t.test('timeouts in the connection string are refused: pg would set them behind the session\'s back', async (t) => {
  for (const name of ['statement_timeout', 'query_timeout', 'lock_timeout']) {
    const app = Fastify()
    await t.rejects(async () => app.register(pgScope, { connectionString: `${postgres.connectionString}?${name}=1000` }), { code: 'FST_PG_SCOPE_OPTIONS', message: new RegExp(name) })
  }
})
