// A request or scope in mode 'autocommit' that ends early: what was saved is not said to be lost, and nothing is
// waited for in vain.
import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { openRequest } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const autocommit = { mode: 'autocommit' } as const
const rows = 'SELECT i FROM generate_series(1, 100000) AS i'
/** Saves a row, whatever it is asked to stop for, longer than a cancelled statement is waited for. */
const stubborn = `DO $$ DECLARE ends timestamptz := clock_timestamp() + interval '3 s'; BEGIN
  INSERT INTO note VALUES ('stubborn');
  WHILE clock_timestamp() < ends LOOP
    BEGIN PERFORM pg_sleep(0.05); EXCEPTION WHEN query_canceled THEN NULL; END;
  END LOOP;
END $$`

test('a statement that may be saved although it was cancelled has an unknown outcome', {}, async (t, { app, busy, saved }) => {
  const controller = new AbortController()
  const work = app.db.scope((db) => db.query(stubborn), { ...autocommit, signal: controller.signal })
  const outcome = work.catch((error) => error)
  await waitFor(async () => (await busy()).some((text) => text.includes('stubborn')))
  controller.abort()
  t.match(await outcome, { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  await waitFor(async () => (await saved()).length === 1)
})

test('a statement that heeded its cancellation is not saved, and says so', {}, async (t, { app, busy }) => {
  const controller = new AbortController()
  const work = app.db.scope((db) => db.query('SELECT pg_sleep(60)'), { ...autocommit, signal: controller.signal })
  const outcome = work.catch((error) => error)
  await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
  controller.abort()
  t.match(await outcome, { code: 'FST_PG_SCOPE_CANCELED' })
})

test('a statement that fails by itself while it is cancelled tells its own error', {}, async (t, { app, busy }) => {
  const controller = new AbortController()
  const failing = stubborn.replace("'3 s'", "'400 ms'").replace('END LOOP;', "END LOOP; RAISE unique_violation USING MESSAGE = 'its own';")
  const work = app.db.scope((db) => db.query(failing), { ...autocommit, signal: controller.signal })
  const outcome = work.catch((error) => error)
  await waitFor(async () => (await busy()).some((text) => text.includes('stubborn')))
  controller.abort()
  t.match(await outcome, { code: '23505' })
})

test('a signal stops a statement that is not awaited, while the scope waits for it', {}, async (t, { app, busy }) => {
  const controller = new AbortController()
  const work = app.db.scope((db) => { db.query('SELECT pg_sleep(60)').catch(() => {}) }, { ...autocommit, signal: controller.signal })
  const outcome = work.catch((error) => error)
  await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
  controller.abort()
  await outcome
  await waitFor(async () => (await busy()).length === 0)
  t.match(app.db.stats(), { inUse: 0 })
})

test('a hang-up stops a statement that is not awaited, while the answer waits for it', {}, async (t, { app, listen, busy }) => {
  app.get('/', { config: { db: autocommit } }, async (request) => {
    request.db.query('SELECT pg_sleep(60)').catch(() => {})
    return { ok: true }
  })
  const { socket } = openRequest(await listen(), { method: 'GET' })
  await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
  socket.destroy()
  await waitFor(async () => (await busy()).length === 0 && app.db.stats().inUse === 0)
})

test('a stream of which one row was read does not keep the answer waiting', {}, async (t, { app }) => {
  app.get('/', { config: { db: autocommit } }, async (request) => {
    const stream = request.db.stream<{ i: number }>(rows)
    const { value } = await stream[Symbol.asyncIterator]().next()
    return value
  })
  t.match(await app.inject('/'), { statusCode: 200, body: '{"i":1}' })
  await waitFor(async () => app.db.stats().inUse === 0)
})

test('a stream of which one row was read does not keep a scope waiting', {}, async (t, { app }) => {
  const value = await app.db.scope(
    async (db) => (await db.stream(rows)[Symbol.asyncIterator]().next()).value, autocommit
  )
  t.same(value, { i: 1 })
  await waitFor(async () => app.db.stats().inUse === 0)
})
