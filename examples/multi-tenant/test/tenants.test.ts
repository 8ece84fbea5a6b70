import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { hangUp, send } from '../../../harness/http-client.ts'
import { startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { buildApp } from '../src/app.ts'
import { loginRole, schema } from '../src/schema.ts'

/** For each of the two ways. */
const requests = Number(process.argv[2] ?? 400)
// The long form has no limit; in the tests that of the runner holds.
if (process.argv[2] !== undefined) t.setTimeout(0)
const tenants = Array.from({ length: 50 }, (_, n) => `tenant-${n + 1}`)
const pick = <T> (list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!

const postgres = await startTestPostgres(t)
await postgres.query(schema)
await postgres.query(loginRole('s3cret'))
await postgres.query(`
  grant temporary on database ${postgres.database} to tenant;
  insert into notes (tenant, text) select 'tenant-' || n, 'of tenant-' || n from generate_series(1, 50) as n`)
const direct = new URL(postgres.connectionString)
direct.username = 'app'
direct.password = 's3cret'

interface Served { port: number, idle (): boolean }

/** Rows as an array, or one in each line. */
function rowsOf (body: string): Record<string, unknown>[] {
  if (body.startsWith('[')) return JSON.parse(body)
  return body.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line))
}

async function open (t: Test, connectionString: string): Promise<Served> {
  const app = await buildApp({ connectionString, pool: { max: 3 }, startupCheck: false })
  t.teardown(() => app.close())
  app.post('/fail', async ({ db, headers }) => {
    await db.query('insert into notes (text) values ($1)', [`of ${headers['x-tenant']}`])
    await db.query('select 1 / 0')
  })
  app.post('/throw', async ({ db, headers }) => {
    await db.query('insert into notes (text) values ($1)', [`of ${headers['x-tenant']}`])
    throw new Error('later')
  })
  app.get('/slow', async ({ db }) => (await db.query('select tenant, text from notes, pg_sleep(0.02)')).rows)
  app.post('/conflict', { config: { db: { retry: { attempts: 3, minDelay: 1 } } } }, async ({ db, headers }) => {
    const { rows } = await db.query('insert into notes (text) values ($1) returning tenant, text', [`of ${headers['x-tenant']}`])
    if (db.attempt < 3) await db.query('do $$ begin raise exception \'x\' using errcode = \'40001\'; end $$')
    return rows
  })
  // What a developer may do by mistake, with the tenant in it.
  const leftovers = [
    (tenant: string) => `set app.tenant = '${tenant}'`,
    (tenant: string) => `create temporary table notes as select '${tenant}'::text as tenant, 'stolen'::text as text`,
    (tenant: string) => `prepare mine as select '${tenant}'::text as tenant, 'stolen'::text as text`,
    () => 'set role none'
  ]
  app.post('/leave', async ({ db, headers }) => {
    await db.query(pick(leftovers)(String(headers['x-tenant'])))
    return []
  })
  app.get('/execute', async ({ db }) => (await db.query('execute mine')).rows)
  app.get('/named', async ({ db }) => (await db.query({ name: 'mine', text: 'select tenant, text from notes' })).rows)
  app.get('/state', async ({ db }) => (await db.query(`
    select current_setting('app.tenant', true) as tenant, current_user as "user",
      (select count(*)::int from pg_class where relpersistence = 't' and relname = 'notes'
         and relnamespace = pg_my_temp_schema()) as tables,
      (select count(*)::int from pg_prepared_statements where from_sql) as prepared`)).rows)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { port: (app.server.address() as AddressInfo).port, idle: () => app.db.stats().inUse === 0 }
}

const paths = ['GET /notes', 'GET /notes/all', 'POST /notes', 'GET /slow', 'GET /state', 'POST /fail', 'POST /throw', 'POST /conflict', 'POST /leave', 'GET /execute', 'GET /named']

/** Sends requests of all tenants, and of none, and checks what they get. */
async function checkTenants (t: Test, port: number, count: number): Promise<void> {
  let left = count
  const counts: Record<string, number> = {}
  const wrong: unknown[] = []
  await Promise.all(Array.from({ length: 20 }, async () => {
    while (left-- > 0) {
      const tenant = Math.random() < 0.05 ? null : pick(tenants)
      const [method, path] = pick(paths).split(' ') as [string, string]
      const headers: Record<string, string> = tenant === null ? {} : { 'x-tenant': tenant }
      const request = { method, path, headers, ...(path === '/notes' && method === 'POST' && { body: { text: `of ${tenant}` } }) }
      if (Math.random() < 0.05) {
        await hangUp(port, request, { after: Math.random() * 20 })
        continue
      }
      const { status, body, complete } = await send(port, request)
      counts[`${status}`] = (counts[`${status}`] ?? 0) + 1
      if (status >= 300 || !complete) continue
      for (const row of rowsOf(body)) {
        const isRight = path === '/state'
          ? (row.tenant ?? '') === (tenant ?? '') && row.user === 'tenant' && row.tables === 0 && row.prepared === 0
          : tenant !== null && row.tenant === tenant && row.text === `of ${tenant}`
        if (!isRight) wrong.push({ tenant, method, path, row })
      }
    }
  }))
  t.comment(JSON.stringify(counts))
  t.same(wrong.slice(0, 5), [], `no row of another tenant in ${count} answers`)
  t.ok((counts['200'] ?? 0) + (counts['201'] ?? 0) > count / 4, 'enough were answered to say so')
  const { rows } = await postgres.query('select tenant, text from notes where text <> \'of \' || tenant limit 5')
  t.same(rows, [], 'nothing was written for another tenant')
}

/** Does something again and again, with pauses, until the work is done. */
async function meanwhile (work: Promise<unknown>, pause: number, fault: () => Promise<unknown>): Promise<void> {
  const done = new AbortController()
  const end = work.finally(() => done.abort())
  while (!done.signal.aborted) {
    await sleep(pause, undefined, { signal: done.signal }).catch(() => {})
    if (!done.signal.aborted) await fault()
  }
  await end
}

const killOne = (): Promise<unknown> => postgres.query(`
  select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' order by random() limit 1`)

t.test('directly: no row, setting, table or prepared statement of one tenant reaches another', { timeout: 0 }, async (t) => {
  const { port, idle } = await open(t, direct.href)
  await meanwhile(checkTenants(t, port, requests), 200, killOne)
  await waitFor(idle)
})

t.test('behind PgBouncer: no row, setting, table or prepared statement of one tenant reaches another', { timeout: 0 }, async (t) => {
  const pooler = await startPgBouncer(t, postgres, { settings: { default_pool_size: 3, server_login_retry: 1 } })
  const url = new URL(direct)
  url.port = String(pooler.port)
  const { port, idle } = await open(t, url.href)
  let faults = 0
  await meanwhile(checkTenants(t, port, requests), 200, async () => {
    if (faults++ % 5 !== 4) return await killOne()
    await pooler.kill9()
    await pooler.start()
  })
  await waitFor(idle)
})

t.test('without a tenant there is no row, and none can be written; the login role alone may do nothing', async (t) => {
  const { port } = await open(t, direct.href)
  t.match(await send(port, { path: '/notes' }), { status: 200, body: '[]' })
  t.match(await send(port, { path: '/notes', headers: { 'x-tenant': '' } }), { status: 200, body: '[]' })
  t.match(await send(port, { path: '/notes', headers: { 'x-tenant': 'tenant-1\' or true --' } }), { status: 200, body: '[]' })
  t.ok((await send(port, { path: '/notes', method: 'POST', body: { text: 'x' } })).status >= 400)
  await t.rejects(postgres.query('select from notes', [], direct.href), { code: '42501' })
})
