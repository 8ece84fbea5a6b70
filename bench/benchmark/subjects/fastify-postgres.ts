import postgres from '@fastify/postgres'
import { insert, randomAmount, randomId, randomIds, read, readAsUser, set, tenant, timeout, update, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

/** The route option `transact` of its README. It always sends BEGIN alone, so that READ ONLY takes a statement more. */
const fastifyPostgres: Declare = async (app, { connectionString, max }) => {
  await app.register(postgres, { connectionString, max, connectionTimeoutMillis: 5000 })
  const transact = { pg: { transact: true } }

  app.get('/read', transact, async (request) => {
    const { rows } = await request.pg!.query(read, [randomId()])
    return rows[0]
  })
  app.get('/read-only', transact, async (request) => {
    await request.pg!.query('SET TRANSACTION READ ONLY')
    const { rows } = await request.pg!.query(read, [randomId()])
    return rows[0]
  })
  app.get('/autocommit', async () => {
    const { rows } = await app.pg.query(read, [randomId()])
    return rows[0]
  })
  app.post('/write', transact, async (request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await request.pg!.query(update, [amount, account])
    await request.pg!.query(insert, [account, amount])
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', transact, async (request) => {
    const page = []
    for (const id of randomIds()) {
      const { rows } = await request.pg!.query(read, [id])
      page.push(rows[0])
    }
    return page
  })
  app.get('/settings', transact, async (request) => {
    await request.pg!.query(set, [userOf(request), tenant, timeout])
    const { rows } = await request.pg!.query(readAsUser, [randomId()])
    return rows[0]
  })
}

export default fastifyPostgres
