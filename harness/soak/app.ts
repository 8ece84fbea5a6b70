import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { setTimeout as sleep } from 'node:timers/promises'
import pgScope, { type PoolOptions } from '../../lib/index.ts'

export const schema = `
  CREATE TABLE soak (request int NOT NULL);
  CREATE TABLE late (request int NOT NULL);
  CREATE TABLE owners (id int PRIMARY KEY);
  CREATE TABLE pets (owner int REFERENCES owners DEFERRABLE INITIALLY DEFERRED)`

const insert = 'INSERT INTO soak (request) VALUES ($1)'

const numberOf = (request: FastifyRequest): number => Number((request.query as { n: string }).n)
const save = (request: FastifyRequest) => request.db.query(insert, [numberOf(request)])

/** More requests at a time than connections, so that many of them wait. */
export const connections = 5

/** An app whose routes end in many ways. Each writes its request's number, which is there afterwards or is not. */
export async function buildApp (connectionString: string, strategy: PoolOptions['strategy']): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(pgScope, { connectionString, pool: { strategy, max: connections, acquireTimeout: 20_000 } })

  const created = async (request: FastifyRequest, reply: FastifyReply) => {
    await save(request)
    reply.code(201)
    return { ok: true }
  }
  app.post('/write', created)
  app.post('/throw', async (request) => {
    await save(request)
    throw new Error('by the handler')
  })
  app.post('/error-status', async (request, reply) => {
    await save(request)
    reply.code(422)
    return { ok: false }
  })
  app.post('/sql-error', async (request) => {
    await save(request)
    await request.db.query('SELECT 1 / 0')
  })
  app.post('/swallowed', async (request) => {
    await save(request)
    await request.db.query('SELECT 1 / 0').catch(() => {})
    return { ok: true }
  })
  app.post('/deferred', async (request) => {
    await save(request)
    await request.db.query('INSERT INTO pets (owner) VALUES (1)')
    return { ok: true }
  })
  app.post('/savepoints', async (request, reply) => {
    const { db } = request
    await db.transaction(async () => {
      await db.transaction(() => db.query('SELECT 1 / 0')).catch(() => {})
      await save(request)
    })
    db.afterCommit(() => {})
    reply.code(201)
    return { ok: true }
  })
  app.post('/together', async (request, reply) => {
    await Promise.all([save(request), request.db.query('SELECT $1::int AS n', [1]), request.db.query('SELECT 2 AS n')])
    reply.code(201)
    return { ok: true }
  })
  app.get('/read', { config: { db: { readOnly: true } } }, async (request) => (await request.db.query('SELECT count(*) FROM owners')).rows)
  app.get('/untouched', async () => ({ ok: true }))
  app.get('/rows', async (request) => request.db.stream("SELECT n, repeat('x', 100) AS filler FROM generate_series(1, 300) AS n", [], { batchSize: 100 }))
  app.get('/many-rows', async (request) => request.db.stream("SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 20000) AS n"))
  const slow = async (request: FastifyRequest) => {
    await save(request)
    await request.db.query('SELECT pg_sleep(5)')
    return { ok: true }
  }
  app.get('/slow', slow)
  app.post('/slow', slow)
  app.get('/timeout', { handlerTimeout: 30 }, async (request) => {
    await save(request)
    await sleep(60)
    await request.db.query('INSERT INTO late (request) VALUES ($1)', [numberOf(request)])
    return { ok: true }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}
