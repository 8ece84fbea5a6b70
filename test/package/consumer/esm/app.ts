import assert from 'node:assert/strict'
import Fastify from 'fastify'
import pgScope, { isPgScopeError, pgScope as named, type Engine, type PgScopeErrorCode, type Session } from 'fastify-pg-scope'
import { startPostgres, type EmbeddedPostgres } from 'fastify-pg-scope/embedded'

assert.equal(named, pgScope)
const postgres: EmbeddedPostgres = await startPostgres()
const app = Fastify()
try {
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const engine: Engine = app.db
  await engine.query('create table notes (id int generated always as identity, text text not null)')

  async function add (session: Session, text: string | null): Promise<number> {
    const { rows } = await session.query<{ id: number }>('insert into notes (text) values ($1) returning id', [text])
    return rows[0]?.id ?? 0
  }
  app.post('/notes', async (request, reply) => reply.code(201).send({ id: await add(request.db, 'kept') }))
  app.post('/failures', async request => {
    await add(request.db, 'lost')
    throw new Error('after the insert')
  })
  app.post('/swallowed', async request => {
    await add(request.db, null).catch(() => {})
    return { ok: true }
  })
  app.get('/notes', { config: { db: { readOnly: true } } }, async (request, reply) => reply.send(request.db.stream<{ text: string }>('select text from notes')))

  assert.equal((await app.inject({ method: 'POST', url: '/notes' })).body, '{"id":1}')
  assert.equal((await app.inject({ method: 'POST', url: '/failures' })).statusCode, 500)
  const swallowed = (await app.inject({ method: 'POST', url: '/swallowed' })).json<{ code: PgScopeErrorCode }>()
  assert.equal(swallowed.code, 'FST_PG_SCOPE_TRANSACTION_ABORTED')
  assert.equal((await app.inject('/notes')).body.trim(), '{"text":"kept"}')

  const session = app.db.session()
  await session.close()
  const error: unknown = await session.query('select 1').catch((error: unknown) => error)
  assert(isPgScopeError(error) && error.code === 'FST_PG_SCOPE_SESSION_CLOSED')
  assert.equal(app.db.stats().inUse, 0)
} finally {
  await app.close()
  await postgres.stop()
}
console.log('done')
