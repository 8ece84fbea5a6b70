import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

t.test('a transaction(fn) that the handler did not wait for is committed before the success is sent, also where it had sent nothing yet', async (t) => {
  const postgres = await startTestPostgres(t)
  await postgres.query('CREATE TABLE note (text text)')
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.post('/late', async (request, reply) => {
    request.db.transaction(async (db) => {
      await sleep(50)
      await db.query('INSERT INTO note VALUES (\'late\')')
    })
    return reply.code(201).send({ ok: true })
  })
  app.post('/failing', async (request, reply) => {
    request.db.transaction(async () => {
      await sleep(50)
      throw new Error('late')
    })
    return reply.code(201).send({ ok: true })
  })

  t.equal((await app.inject({ method: 'POST', url: '/late' })).statusCode, 201)
  t.strictSame((await postgres.query('SELECT text FROM note')).rows, [{ text: 'late' }])
  t.equal((await app.inject({ method: 'POST', url: '/failing' })).statusCode, 500, 'its failure is the answer\'s')
})
