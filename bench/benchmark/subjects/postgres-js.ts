import postgres from 'postgres'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

/**
 * `sql.begin` of its README. It prepares by itself; where the pooler does not follow that, its README asks for
 * `prepare: false`.
 */
const postgresJs: Declare = async (app, { connectionString, max, unprepared }) => {
  const sql = postgres(connectionString, { max, prepare: !unprepared })
  app.addHook('onClose', () => sql.end())

  const read = (sql: postgres.ISql, id: number) => sql`SELECT id, owner, balance FROM accounts WHERE id = ${id}`

  app.get('/read', () => sql.begin(async (sql) => {
    const [row] = await read(sql, randomId())
    return row
  }))
  app.get('/read-only', () => sql.begin('READ ONLY', async (sql) => {
    const [row] = await read(sql, randomId())
    return row
  }))
  app.get('/autocommit', async () => {
    const [row] = await read(sql, randomId())
    return row
  })
  app.post('/write', async (_request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await sql.begin(async (sql) => {
      await sql`UPDATE accounts SET balance = balance + ${amount} WHERE id = ${account}`
      await sql`INSERT INTO entries (account, amount) VALUES (${account}, ${amount})`
    })
    reply.code(201)
    return { account, amount }
  })
  // It sends them behind each other without waiting, as its README says of transactions.
  app.get('/page', () => sql.begin(async (sql) => {
    const page = await Promise.all(randomIds().map((id) => read(sql, id)))
    return page.map(([row]) => row)
  }))
  app.get('/settings', (request) => sql.begin(async (sql) => {
    await sql`SELECT set_config('app.user_id', ${userOf(request)}, true), set_config('app.tenant_id', ${tenant}, true), set_config('statement_timeout', ${String(timeout)}, true)`
    const [row] = await sql`
      SELECT id, owner, balance, current_setting('app.user_id') AS "user", current_setting('app.tenant_id') AS tenant,
        current_setting('statement_timeout') AS timeout FROM accounts WHERE id = ${randomId()}`
    return row
  }))
}

export default postgresJs
