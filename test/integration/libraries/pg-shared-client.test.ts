// What holds where requests share a client, and where a transaction ends in another way than by its own COMMIT.
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { clientOf, driverOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)
const add = (client: pg.ClientBase, name: string) => client.query('INSERT INTO person (full_name) VALUES ($1)', [name])

t.test('requests that share a client keep their transactions apart', async (t) => {
  for (const path of ['driver', 'client']) {
    const { app, people } = await startShop(t, postgres)
    const client: pg.ClientBase = path === 'driver' ? new (driverOf(app.db)).Client() : clientOf(() => app.db.current())
    let bobIsDone = (): void => {}
    const bob = new Promise<void>((resolve) => { bobIsDone = resolve })
    let aliceHasBegun = (): void => {}
    const alice = new Promise<void>((resolve) => { aliceHasBegun = resolve })
    app.post(`/${path}/alice`, async () => {
      await client.query('BEGIN')
      await add(client, 'alice')
      aliceHasBegun()
      await bob
      await client.query('ROLLBACK')
      throw new Error('mine')
    })
    app.post(`/${path}/bob`, async () => {
      await alice
      await client.query('BEGIN')
      await add(client, `${path} bob`)
      await client.query('COMMIT')
      bobIsDone()
      return {}
    })
    const both = await Promise.all(['alice', 'bob'].map((name) => app.inject({ method: 'POST', url: `/${path}/${name}` })))
    t.same(both.map(({ statusCode }) => statusCode), [500, 200])
    t.same(await people(), ['Ada', 'Grace', `${path} bob`])
  }
})

t.test('a transaction that rollback() of the session has ended is not mistaken for an open one', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    await client.query('BEGIN')
    await add(client, 'undone')
    await session.rollback()
    await t.rejects(add(client, 'not sent'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /ended with what is around it/ })
    await client.query('BEGIN')
    await add(client, 'undone too')
    await client.query('ROLLBACK')
    const savepoint = await session.savepoint()
    await client.query('BEGIN')
    await add(client, 'undone again')
    await savepoint[Symbol.asyncDispose]()
    await client.query('BEGIN')
    await add(client, 'undone at last')
    await client.query('ROLLBACK')
    await client.query('BEGIN')
    await add(client, 'kept')
    await client.query('COMMIT')
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('two transactions that begin at once and wait for each other end with an error, and do not hang', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const tooLong = { code: 'FST_PG_SCOPE_SESSION_STATE', details: /waited 5000 ms/ }
  await Promise.all((['transaction', 'autocommit'] as const).map(async (mode) => {
    await t.rejects(db.scope(async (session) => {
      await Promise.all([clientOf(session).query('BEGIN'), clientOf(session).query('BEGIN')])
    }, { mode }), tooLong, mode)
    await t.rejects(db.scope(async (session) => {
      const [first, second] = [clientOf(session), clientOf(session)]
      first.query('BEGIN')
      second.query('BEGIN')
      await t.rejects(add(second, 'not sent'))
      await second.query('ROLLBACK')
      await first.query('ROLLBACK')
    }, { mode }), `${mode}: a BEGIN that nobody awaits`)
    await db.scope(async (session) => {
      const [first, second] = [clientOf(session), clientOf(session)]
      first.query('BEGIN')
      second.query('BEGIN')
      first.query('SELECT pg_sleep(6)')
      first.query('COMMIT')
      first.query('SELECT 1')
      await second.query('COMMIT')
    }, { mode })
  }))
  t.same(await people(), ['Ada', 'Grace'])
  t.equal(db.stats().inUse, 0)
  const session = db.session()
  const waiting = Promise.all([clientOf(session).query('BEGIN'), clientOf(session).query('BEGIN')])
  const rejected = t.rejects(waiting, { code: 'FST_PG_SCOPE_SESSION_CLOSED' }, 'the end of the session ends the wait')
  await new Promise((resolve) => setImmediate(resolve))
  await session.close()
  await rejected
})

t.test('a hang-up ends the wait of a transaction for another one', async (t) => {
  const { app, db } = await startShop(t, postgres)
  const pool = poolOf(db)
  let failed = (_error: unknown): void => {}
  const failure = new Promise<unknown>((resolve) => { failed = resolve })
  let began = (): void => {}
  const hasBegun = new Promise<void>((resolve) => { began = resolve })
  app.post('/', async () => {
    await pool.query('SELECT 1')
    const [a, b] = [await pool.connect(), await pool.connect()]
    const first = a.query('BEGIN')
    const second = b.query('BEGIN')
    await first
    began()
    await second.catch(failed)
    return {}
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const request = httpRequest({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1', method: 'POST' })
  request.on('error', () => {})
  request.end()
  await hasBegun
  request.destroy()
  t.match(await failure, { code: /^FST_PG_SCOPE_(?!SESSION_STATE)/ })
})

t.test('COMMIT inside of a transaction(fn) that was opened later is refused, and the transaction goes on', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    for (const end of ['COMMIT', 'ROLLBACK']) {
      await client.query('BEGIN')
      await add(client, end)
      await session.transaction(async () => {
        await t.rejects(client.query(end), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /Let fn settle first/ })
      })
      t.equal(client.getTransactionStatus!(), 'T')
      await client.query(end)
    }
  })
  t.same(await people(), ['Ada', 'Grace', 'COMMIT'])
})

t.test('a COMMIT that fails in mode autocommit is an error of pg', async (t) => {
  const { db } = await startShop(t, postgres)
  await using session = db.session({ mode: 'autocommit' })
  const client = clientOf(session)
  await client.query('BEGIN')
  await client.query("INSERT INTO pet (owner_id, name) VALUES (-1, 'x')")
  const error = await client.query('COMMIT').catch((error) => error)
  t.ok(error instanceof pg.DatabaseError)
  t.equal(error.code, '23503')
})

t.test('a client whose function finds no session rejects its call, and does not throw', async (t) => {
  const { db } = await startShop(t, postgres)
  const client = clientOf(() => db.current())
  await t.rejects(client.query('SELECT 1'), { code: 'FST_PG_SCOPE_NO_SESSION' })
  await t.rejects(client.query('BEGIN'), { code: 'FST_PG_SCOPE_NO_SESSION' })
  t.equal(client.getTransactionStatus!(), 'I')
  client.release()
})

t.test('outside of sessions a COMMIT that fails and is not awaited is an unhandled rejection, as with pg', async (t) => {
  const { db } = await startShop(t, postgres)
  const client = await poolOf(db).connect()
  await client.query('BEGIN')
  await client.query("INSERT INTO pet (owner_id, name) VALUES (-1, 'x')")
  const unhandled = once(process, 'unhandledRejection')
  client.query('COMMIT')
  t.match((await unhandled)[0], { code: '23503' })
  client.release()
})

t.test('a long text of many statements is searched once', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await poolOf(db).query(`SELECT '${'a;'.repeat(200_000)}'`)
  t.same(await people(), ['Ada', 'Grace'])
})
