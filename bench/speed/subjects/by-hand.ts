import pg from 'pg'
import { insert, randomAmount, randomId, randomIds, read, readAsUser, set, tenant, timeout, update, userOf } from '../statements.ts'
import type { Declare } from '../subject.ts'

/**
 * node-postgres' own page on transactions (https://node-postgres.com/features/transactions), and what a careful author adds:
 * 'error' listeners on the pool and its clients, a bounded wait for a connection, and a client whose ROLLBACK failed is
 * destroyed.
 */
const byHand: Declare = async (app, { connectionString, max }) => {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
  app.addHook('onClose', () => pool.end())

  async function inTransaction<T> (fn: (client: pg.PoolClient) => Promise<T>, begin = 'BEGIN'): Promise<T> {
    const client = await pool.connect()
    let broken = false
    try {
      await client.query(begin)
      const result = await fn(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch(() => { broken = true })
      throw error
    } finally {
      client.release(broken)
    }
  }

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

export default byHand
