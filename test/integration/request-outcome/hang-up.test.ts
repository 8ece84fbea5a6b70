import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, openRequest, send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { keptConnections } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

for (const [method, body] of [['GET', undefined], ['POST', { a: 1 }]] as const) {
  test(`a hang-up during ${method} stops the running statement on the server and frees its connection within a second`, {}, async (t, { app, listen, saved, busy }) => {
    const gone = gate()
    const ended = gate()
    let error: unknown
    app.route({
      method,
      url: '/',
      handler: async (request) => {
        request.db.signal.addEventListener('abort', gone.open)
        await request.db.query(insert, ['lost'])
        try {
          await request.db.query('SELECT pg_sleep(60)')
        } catch (e) {
          error = e
          throw e
        } finally {
          ended.open()
        }
      }
    })
    const port = await listen()
    const { socket } = openRequest(port, { method, body })
    await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
    socket.destroy()
    await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0, { timeout: 1000 })
    await ended.opened
    await gone.opened
    t.match(error, { code: 'FST_PG_SCOPE_CANCELED' })
    t.match(app.db.stats(), { open: keptConnections(1), counters: { canceled: 1, destroyed: 0, rolledBack: 1 } }, 'the connection was kept')
    t.same(await saved(), [])
  })

  for (const returned of [{ ok: true }, undefined, new Error('a throw')]) {
    const what = returned === undefined ? 'undefined' : returned instanceof Error ? 'a throw' : 'a payload'
    test(`a hang-up during ${method} rolls back, also when the handler ends with ${what} afterwards`, {}, async (t, { app, listen, saved }) => {
      const reached = gate()
      const goOn = gate()
      const over = gate()
      let late: unknown
      app.route({
        method,
        url: '/',
        handler: async (request) => {
          await request.db.query(insert, ['lost'])
          reached.open()
          await goOn.opened
          late = await request.db.query(insert, ['late']).catch((error) => error)
          setImmediate(over.open)
          if (returned instanceof Error) throw returned
          return returned
        }
      })
      const port = await listen()
      await hangUp(port, { method, body }, { after: reached.opened })
      await waitFor(() => app.db.stats().inUse === 0, { message: 'the connection is back although the handler still runs' })
      const { acquired } = app.db.stats().counters
      goOn.open()
      await over.opened
      t.match(late, { code: /^FST_PG_SCOPE_(CANCELED|SESSION_CLOSED)$/ })
      t.equal(app.db.stats().counters.acquired, acquired, 'the handler has not reached a connection')
      t.same(await saved(), [])
    })

    test(`with onAbort 'commit' a hang-up during ${method} lets the work finish, and the handler ends with ${what}`, { plugin: { onAbort: 'commit' } }, async (t, { app, listen, saved }) => {
      const reached = gate()
      const goOn = gate()
      app.route({
        method,
        url: '/',
        handler: async (request) => {
          await request.db.query(insert, ['before'])
          reached.open()
          await goOn.opened
          await request.db.query(insert, ['after'])
          if (returned instanceof Error) throw returned
          return returned
        }
      })
      const port = await listen()
      await hangUp(port, { method, body }, { after: reached.opened })
      await sleep(100)
      goOn.open()
      await waitFor(() => app.db.stats().inUse === 0)
      t.same(await saved(), returned instanceof Error ? [] : ['after', 'before'])
    })
  }
}

test('a hang-up by RST is noticed as well', {}, async (t, { app, listen, saved, busy }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT pg_sleep(60)')
  })
  const port = await listen()
  const running = waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
  await hangUp(port, {}, { after: running, reset: true })
  await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
  t.same(await saved(), [])
})

test('a request that hangs up while it waits for a connection leaves the queue', { plugin: { pool: { max: 1 } } }, async (t, { app, listen, saved }) => {
  const held = gate()
  const release = gate()
  let waited: unknown
  app.get('/hold', async (request) => {
    await request.db.query(insert, ['held'])
    held.open()
    await release.opened
    return 'x'
  })
  app.get('/wait', async (request) => {
    waited = await request.db.query(insert, ['lost']).catch((error) => error)
    throw waited
  })
  const port = await listen()
  const holder = send(port, { path: '/hold' })
  await held.opened
  await hangUp(port, { path: '/wait' }, { after: waitFor(() => app.db.stats().waiting === 1) })
  await waitFor(() => app.db.stats().waiting === 0)
  await waitFor(() => waited !== undefined)
  t.match(waited, { code: 'FST_PG_SCOPE_CANCELED' })
  release.open()
  t.equal((await holder).status, 200)
  t.equal(app.db.stats().counters.acquired, 1, 'the one who left never got a connection')
  t.same(await saved(), ['held'])
})

test('a connection whose waiter has left goes to the pool', { register: false }, async (t, { app, plugin, listen, saved }) => {
  const proxy = await startPgProxy(t, postgres)
  const { default: pgScope } = await import('../../../harness/plugin.ts')
  await app.register(pgScope, { ...plugin, connectionString: proxy.connectionString(postgres.connectionString) })
  const reached = gate()
  app.get('/', async (request) => {
    reached.open()
    await request.db.query(insert, ['lost'])
  })
  const port = await listen()
  proxy.pause()
  await hangUp(port, {}, { after: reached.opened.then(() => sleep(50)) })
  await waitFor(() => app.db.stats().waiting === 0)
  proxy.resume()
  await waitFor(() => app.db.stats().open === keptConnections(1))
  t.equal(app.db.stats().counters.acquired, 0)
  t.same(await saved(), [])
})

test('COMMIT stands when the client hangs up while it is under way', {}, async (t, { app, listen, saved, busy }) => {
  const outcome: string[] = []
  app.get('/', async (request) => {
    request.db.afterCommit(() => { outcome.push('commit') })
    request.db.afterRollback(() => { outcome.push('rollback') })
    await request.db.query('INSERT INTO slow VALUES ($1, 0.6, NULL)', ['stands'])
    return 'x'
  })
  const port = await listen()
  const committing = waitFor(async () => (await busy()).includes('active: COMMIT'))
  t.equal((await hangUp(port, {}, { after: committing })).status, 0)
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['stands'])
  t.same(outcome, ['commit'])
  t.match(app.db.stats().counters, { canceled: 0, committed: 1, rolledBack: 0 })
})

test('a hang-up while COMMIT is under way and fails leaves nothing behind', {}, async (t, { app, listen, saved, busy, log }) => {
  app.get('/', async (request) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.6, $2)', ['refused', '23505'])
    return 'x'
  })
  const port = await listen()
  const committing = waitFor(async () => (await busy()).includes('active: COMMIT'))
  await hangUp(port, {}, { after: committing })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
  await waitFor(() => log.some(({ err }) => err?.code === 'FST_PG_SCOPE_CONSTRAINT_VIOLATION'), { message: 'the failure is in the log' })
})

test('closing the app does not wait for the handler of a client that is gone', {}, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  let late: Promise<unknown> | undefined
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    reached.open()
    await goOn.opened
    late = request.db.query(insert, ['late']).catch((error) => error)
  })
  const port = await listen()
  await hangUp(port, {}, { after: reached.opened })
  await waitFor(() => app.db.stats().inUse === 0)
  const probe = app.db.query('SELECT 1')
  await probe
  goOn.open()
  await waitFor(() => late)
  t.match(await late, { code: /^FST_PG_SCOPE_(CANCELED|SESSION_CLOSED)$/ })
  t.same(await saved(), [])
})
