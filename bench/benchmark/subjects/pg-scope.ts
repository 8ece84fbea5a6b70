import pgScope, { type RouteOptions } from '../../../lib/index.ts'
import { insert, randomAmount, randomId, randomIds, read, readAsUser, tenant, timeout, update, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

const scope: Declare = async (app, { connectionString, max }) => {
  await app.register(pgScope, { connectionString, pool: { max } })

  app.get('/read', async (request) => {
    const { rows } = await request.db.query(read, [randomId()])
    return rows[0]
  })
  app.get('/read-only', { config: { db: { readOnly: true } } }, async (request) => {
    const { rows } = await request.db.query(read, [randomId()])
    return rows[0]
  })
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    const { rows } = await request.db.query(read, [randomId()])
    return rows[0]
  })
  app.post('/write', async (request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await request.db.query(update, [amount, account])
    await request.db.query(insert, [account, amount])
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', async (request) => {
    const page = await Promise.all(randomIds().map((id) => request.db.query(read, [id])))
    return page.map(({ rows }) => rows[0])
  })
  const settings: RouteOptions['settings'] = (request) => ({ 'app.user_id': userOf(request), 'app.tenant_id': tenant })
  app.get('/settings', { config: { db: { statementTimeout: timeout, settings } } }, async (request) => {
    const { rows } = await request.db.query(readAsUser, [randomId()])
    return rows[0]
  })
}

export default scope
