import { byHand } from '../../by-hand.ts'
import { insert, randomAmount, randomId, randomIds, read, readAsUser, set, tenant, timeout, update, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

/** What a careful author writes with node-postgres. */
const subject: Declare = async (app, { connectionString, max }) => {
  const { pool, inTransaction } = byHand(app, { connectionString, max, acquireTimeout: 5000 })

  app.get('/read', () => inTransaction(async (client) => {
    const { rows } = await client.query(read, [randomId()])
    return rows[0]
  }))
  app.get('/read-only', () => inTransaction(async (client) => {
    const { rows } = await client.query(read, [randomId()])
    return rows[0]
  }, 'BEGIN READ ONLY'))
  app.get('/autocommit', async () => {
    const { rows } = await pool.query(read, [randomId()])
    return rows[0]
  })
  app.post('/write', async (_request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await inTransaction(async (client) => {
      await client.query(update, [amount, account])
      await client.query(insert, [account, amount])
    })
    reply.code(201)
    return { account, amount }
  })
  // One after the other: a client of pg is not meant to be asked twice at a time.
  app.get('/page', () => inTransaction(async (client) => {
    const page = []
    for (const id of randomIds()) {
      const { rows } = await client.query(read, [id])
      page.push(rows[0])
    }
    return page
  }))
  app.get('/settings', (request) => inTransaction(async (client) => {
    await client.query(set, [userOf(request), tenant, timeout])
    const { rows } = await client.query(readAsUser, [randomId()])
    return rows[0]
  }))
}

export default subject
