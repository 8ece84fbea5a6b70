import { eq, sql } from 'drizzle-orm'
import { drizzleOf } from '../../../lib/drizzle/index.ts'
import pgScope, { type RouteOptions } from '../../../lib/index.ts'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import { accounts, entries, read, settingsColumns } from '../drizzle-tables.ts'
import type { Declare } from '../subject.ts'

/** What docs/drizzle.md shows: a database for each request. */
const drizzleSession: Declare = async (app, { connectionString, max }) => {
  await app.register(pgScope, { connectionString, pool: { max } })

  app.get('/read', (request) => read(drizzleOf(request.db), randomId()))
  app.get('/read-only', { config: { db: { readOnly: true } } }, (request) => read(drizzleOf(request.db), randomId()))
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, (request) => read(drizzleOf(request.db), randomId()))
  app.post('/write', async (request, reply) => {
    const db = drizzleOf(request.db)
    const account = randomId()
    const amount = randomAmount()
    await db.update(accounts).set({ balance: sql`${accounts.balance} + ${amount}` }).where(eq(accounts.id, account))
    await db.insert(entries).values({ account, amount })
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', (request) => {
    const db = drizzleOf(request.db)
    return Promise.all(randomIds().map((id) => read(db, id)))
  })
  const settings: RouteOptions['settings'] = (request) => ({ 'app.user_id': userOf(request), 'app.tenant_id': tenant })
  app.get('/settings', { config: { db: { statementTimeout: timeout, settings } } }, async (request) => {
    const [row] = await drizzleOf(request.db).select(settingsColumns).from(accounts).where(eq(accounts.id, randomId()))
    return row
  })
}

export default drizzleSession
