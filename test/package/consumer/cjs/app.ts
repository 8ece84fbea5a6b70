import assert from 'node:assert/strict'
import fastify from 'fastify'
import pgScope, { isPgScopeError, type Session } from 'fastify-pg-scope'
import { startPostgres } from 'fastify-pg-scope/embedded'

async function main (): Promise<void> {
  const postgres = await startPostgres()
  const app = fastify()
  try {
    await app.register(pgScope, { connectionString: postgres.connectionString })
    const count = async (session: Session): Promise<number> => {
      const { rows } = await session.query<{ count: number }>('select count(*)::int from notes')
      return rows[0]?.count ?? -1
    }
    await app.db.query('create table notes (text text)')
    app.post('/notes', async request => {
      await request.db.query("insert into notes values ('kept')")
      return { count: await count(request.db) }
    })
    assert.deepEqual((await app.inject({ method: 'POST', url: '/notes' })).json(), { count: 1 })
    assert.equal(await app.db.scope(count), 1)
    assert.equal(isPgScopeError(new Error('of somebody else')), false)
  } finally {
    await app.close()
    await postgres.stop()
  }
  console.log('done')
}

main()
