// What every strategy does, wherever its connections lead. strategy.test.ts runs these for each of them.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { Test } from 'tap'
import pgScope, { type PgScopeOptions, type PoolOptions, type Session } from '../../../lib/index.ts'
import { waitFor } from '../../../harness/wait-for.ts'

/** Connections that each place takes, and no more. */
export const limit = 3

/** Where connections lead. */
export interface Place {
  connectionString: string
  /** How many connections of clients there are, as the server or the PgBouncer in front of it counts them. */
  count (): Promise<number>
  /**
   * How many connections of clients were refused because there were `limit` already. null for PgBouncer, which may
   * count a client for a moment longer than its socket lives.
   */
  refusals (): Promise<number | null>
  /** Ends the backend that this session's transaction runs on. */
  kill (session: Session): Promise<void>
  /** Rows of the table `things`, as somebody else sees them. */
  things (): Promise<number>
}

export interface Case {
  name: string
  /** Where it holds for one strategy alone. */
  only?: 'queue' | 'null'
  run (t: Test, setUp: (t: Test, pool: PoolOptions, options?: PgScopeOptions) => Promise<App>, place: Place, strategy: 'queue' | 'null'): Promise<void>
}

export type App = Awaited<ReturnType<typeof openApp>>

export async function openApp (t: Test, place: Place, options: PgScopeOptions) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: place.connectionString, ...options, pool: { acquireTimeout: 30000, ...options.pool }
  })
  await waitFor(async () => await place.count() === 0, { message: 'the startup check is over' })
  return app
}

/** Holds `count` connections until the returned function is called. */
async function hold (app: App, count: number) {
  const sessions = Array.from({ length: count }, () => app.db.session())
  await Promise.all(sessions.map((session) => session.query('SELECT 1')))
  return () => Promise.all(sessions.map((session) => session.close()))
}

const codesOf = (results: PromiseSettledResult<unknown>[]): string[] => results.map((result) => result.status === 'rejected' ? result.reason.code ?? result.reason.message : 'served')

/** Looks at the number of connections, over and over, until the work is done. */
async function watched (place: Place, work: Promise<string[]>): Promise<{ codes: string[], most: number }> {
  const over = new AbortController()
  let most = 0
  const watch = (async () => { while (!over.signal.aborted) most = Math.max(most, await place.count()) })()
  const codes = await work.finally(() => over.abort())
  await watch
  return { codes, most }
}

/** Sessions that end in every way, so that connections are kept, said goodbye to and cut off. */
async function work (app: App, count: number): Promise<string[]> {
  return codesOf(await Promise.allSettled(Array.from({ length: count }, async (_, i) => {
    if (i % 10 === 9) return await app.db.lease(async (client) => { await client.query('BEGIN; INSERT INTO things VALUES (1)') })
    await app.db.scope(async (session) => {
      await session.query('SELECT pg_sleep(0.002)')
      if (i % 3 === 0) throw new Error('rolled back')
    })
  })))
}

export const cases: Case[] = [{
  name: 'there are never more than max connections: it works where there is no place for one more',
  // Each session of the other one closes its connection; a busy server notices that a moment after we have.
  only: 'queue',
  async run (t, setUp, place) {
    const app = await setUp(t, { max: limit, acquireTimeout: 60000 })
    const before = await place.refusals()
    for (let round = 0; round < 3; round++) {
      const { codes, most } = await watched(place, work(app, 60))
      t.ok(most <= limit, `${most} at the most`)
      t.equal(codes.filter((code) => code === 'served').length, 42)
      t.equal(codes.filter((code) => code === 'rolled back').length, 18)
    }
    t.match(app.db.stats(), {
      inUse: 0, waiting: 0, counters: { acquired: 180, timedOut: 0, refused: 0, destroyed: 18 }
    })
    if (before !== null) t.equal(await place.refusals(), before, 'none was refused')
    t.equal(await place.things(), 0, 'nothing of what was left open is saved')
  }
}, {
  name: 'first come, first served',
  async run (t, setUp) {
    const app = await setUp(t, { max: 1 })
    const release = await hold(app, 1)
    const order: number[] = []
    const all = Promise.all(Array.from({ length: 20 }, async (_, i) => {
      if (i % 4 === 3) await app.db.query('SELECT 1')
      else if (i % 4 === 2) await app.db.lease((client) => client.query('SELECT 1'))
      else await app.db.scope((session) => session.query('SELECT 1'))
      order.push(i)
    }))
    t.equal(app.db.stats().waiting, 20)
    await release()
    await all
    t.same(order, Array.from({ length: 20 }, (_, i) => i))
  }
}, {
  name: 'acquireTimeout bounds the wait, and whoever comes later is served',
  async run (t, setUp) {
    const app = await setUp(t, { max: 2, acquireTimeout: 1500 })
    const release = await hold(app, 2)
    const start = performance.now()
    const results = await Promise.allSettled([app.db.query('SELECT 1'), app.db.scope((session) => session.query('SELECT 1')), app.db.lease(() => {})])
    t.ok(performance.now() - start >= 1499)
    t.same(codesOf(results), Array(3).fill('FST_PG_SCOPE_POOL_EXHAUSTED'))
    t.match(app.db.stats(), { inUse: 2, waiting: 0, counters: { timedOut: 3 } })
    await release()
    t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  }
}, {
  name: 'maxWaiting bounds the queue',
  async run (t, setUp) {
    const app = await setUp(t, { max: 2, maxWaiting: 3, acquireTimeout: 60000 })
    const release = await hold(app, 2)
    const results = Promise.allSettled(Array.from({ length: 5 }, () => app.db.query('SELECT 1')))
    t.match(app.db.stats(), { inUse: 2, waiting: 3, counters: { refused: 2 } })
    await release()
    t.same(codesOf(await results), [...Array(3).fill('served'), ...Array(2).fill('FST_PG_SCOPE_POOL_QUEUE_FULL')])
    t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  }
}, {
  name: 'maxWaiting 0: as many as there are connections, one time after another, and nobody else',
  async run (t, setUp) {
    const app = await setUp(t, { max: 2, maxWaiting: 0 })
    for (let round = 0; round < 3; round++) {
      const results = await Promise.allSettled(Array.from({ length: 5 }, () => app.db.query('SELECT 1')))
      t.same(codesOf(results), [...Array(2).fill('served'), ...Array(3).fill('FST_PG_SCOPE_POOL_QUEUE_FULL')])
    }
  }
}, {
  name: 'whoever gives up leaves the queue, and those behind move up',
  async run (t, setUp) {
    const app = await setUp(t, { max: 1, acquireTimeout: 60000 })
    const release = await hold(app, 1)
    const controller = new AbortController()
    const first = app.db.scope((session) => session.query('SELECT 1'), { signal: controller.signal })
    const second = app.db.query('SELECT 2 AS two')
    await waitFor(() => app.db.stats().waiting === 2)
    controller.abort()
    await t.rejects(first, { code: 'FST_PG_SCOPE_CANCELED' })
    t.equal(app.db.stats().waiting, 1)
    await release()
    t.same((await second).rows, [{ two: 2 }])
    t.match(app.db.stats(), { inUse: 0, waiting: 0, counters: { acquired: 2 } })
  }
}, {
  name: 'whoever gives up while its connection is on its way takes none',
  async run (t, setUp) {
    const app = await setUp(t, { max: 1 })
    const session = app.db.session()
    const query = session.query('SELECT 1')
    const closed = session.close()
    await t.rejects(query, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
    await closed
    t.equal((await app.db.query('SELECT 1')).rowCount, 1)
    t.match(app.db.stats(), { inUse: 0, waiting: 0, counters: { acquired: 1 } })
  }
}, {
  name: 'a dirty connection is never used again',
  async run (t, setUp, place) {
    const app = await setUp(t, { max: 1 })
    for (let round = 0; round < 3; round++) {
      await app.db.lease(async (client) => {
        await client.query('BEGIN')
        await client.query('INSERT INTO things VALUES (1)')
      })
      t.same((await app.db.query('SELECT count(*)::int AS things FROM things')).rows, [{ things: 0 }])
    }
    await app.db.scope((session) => session.query('COMMIT; BEGIN; SELECT 1')).catch(() => {})
    t.equal((await app.db.scope((session) => session.query('SELECT 1'))).rowCount, 1)
    t.ok(app.db.stats().counters.destroyed >= 3)
    t.equal(await place.things(), 0)
    t.ok(await place.count() <= 1)
  }
}, {
  name: 'a connection that dies fails its own session, and is replaced',
  async run (t, setUp, place) {
    const app = await setUp(t, { max: 1 })
    for (let round = 0; round < 3; round++) {
      await t.rejects(app.db.scope(async (session) => {
        await session.query('INSERT INTO things VALUES (1)')
        await place.kill(session)
        await session.query('SELECT 1')
      }), { code: /FST_PG_SCOPE_CONNECTION_LOST|57P01|08P01/ })
      t.equal((await app.db.scope((session) => session.query('SELECT 1'))).rowCount, 1)
    }
    t.match(app.db.stats(), { inUse: 0, waiting: 0 })
    t.equal(await place.things(), 0)
  }
}, {
  name: 'what is kept is the difference',
  async run (t, setUp, place, strategy) {
    const app = await setUp(t, { max: 2 })
    for (let i = 0; i < 5; i++) await app.db.scope((session) => session.query('SELECT 1'))
    const opened = strategy === 'queue' ? 1 : 5
    t.match(app.db.stats(), { strategy, max: 2, idle: strategy === 'queue' ? 1 : 0, inUse: 0, waiting: 0, counters: { opened, acquired: 5, destroyed: 0, committed: 5, rolledBack: 0, resent: 0 } })
    await waitFor(async () => await place.count() === (strategy === 'queue' ? 1 : 0))
    t.equal(app.db.stats().open, strategy === 'queue' ? 1 : 0)
  }
}, {
  name: 'stats() tells who works and who waits',
  async run (t, setUp) {
    const app = await setUp(t, { max: 2 })
    const release = await hold(app, 2)
    t.match(app.db.stats(), { open: 2, idle: 0, inUse: 2, waiting: 0, counters: { opened: 2, acquired: 2 } })
    const waiting = [app.db.query('SELECT 1'), app.db.query('SELECT 1')]
    await sleep(20)
    t.match(app.db.stats(), { open: 2, inUse: 2, waiting: 2 })
    t.ok(app.db.stats().oldestTransaction >= 15)
    await release()
    await Promise.all(waiting)
    t.match(app.db.stats(), { inUse: 0, waiting: 0, oldestTransaction: 0, counters: { acquired: 4, rolledBack: 2 } })
  }
}, {
  name: 'close() refuses those who wait, and leaves no connection behind',
  async run (t, setUp, place) {
    const app = await setUp(t, { max: 1, acquireTimeout: 60000 }, { closeTimeout: 200 })
    const held = app.db.session()
    await held.query('SELECT 1')
    const waiting = Promise.allSettled([app.db.scope((session) => session.query('SELECT 1')), app.db.query('SELECT 1')])
    await waitFor(() => app.db.stats().waiting === 2)
    await app.db.close()
    t.same(codesOf(await waiting), Array(2).fill('FST_PG_SCOPE_CLOSED'))
    await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_CLOSED' })
    t.match(app.db.stats(), { inUse: 0, waiting: 0, open: 0 })
    await waitFor(async () => await place.count() === 0)
  }
}]
