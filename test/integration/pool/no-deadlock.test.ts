// Work that asks for a second connection without waiting for it, and gives its own back: that is no deadlock.
import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../lib/index.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Engine } from '../../../types/engine.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')

/** Longer than the pool takes to look again. Milliseconds. */
const pause = 130

type Work = (db: Session, engine: Engine, beside: (work: Promise<unknown>) => void) => unknown

async function setUp (t: Test, strategy: typeof strategies[number], work: Work) {
  await postgres.query('TRUNCATE note')
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  const pool = { strategy, max: 1, acquireTimeout: 20000 }
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), exposeErrors: true, pool
  })
  const works: Promise<unknown>[] = []
  const beside = (work: Promise<unknown>): void => { works.push(work) }
  app.get('/', async ({ db }) => {
    await work(db, app.db, beside)
    return { ok: true }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const ways: Record<string, () => Promise<unknown>> = {
    request: async () => {
      const { status, body } = await send((app.server.address() as AddressInfo).port)
      if (status !== 200) throw JSON.parse(body)
    },
    'scope()': () => app.db.scope((db) => work(db, app.db, beside))
  }
  /** What has become of the work beside. */
  const settled = async () => {
    const results = await Promise.allSettled(works)
    await waitFor(() => app.db.stats().inUse + app.db.stats().waiting === 0)
    return results.map(({ status }) => status)
  }
  return { app, proxy, ways, settled }
}

const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)
const insert = (db: { query: Session['query'] }, text: string): Promise<unknown> => db.query('INSERT INTO note VALUES ($1)', [text])

const second: Record<string, (engine: Engine) => Promise<unknown>> = {
  'app.db.query()': (engine) => insert(engine, 'b'),
  'app.db.scope()': (engine) => engine.scope((db) => insert(db, 'b'))
}

/** What follows behind the second one, and what is saved. */
const ends: [string, (db: Session) => unknown, string[]][] = [
  ['commit()', (db) => db.commit(), ['a', 'b']],
  ['rollback()', (db) => db.rollback(), ['b']],
  ['its end', () => {}, ['a', 'b']],
  ['a pause and commit()', async (db) => { await sleep(pause); await db.commit() }, ['a', 'b']],
  ['a pause and rollback()', async (db) => { await sleep(pause); await db.rollback() }, ['b']],
  ['a pause and its end', () => sleep(pause), ['a', 'b']],
  ['its end, with a transaction(fn) that nobody awaits', (db) => { db.transaction(async (db) => { await sleep(pause); await db.query('SELECT 1') }) }, ['a', 'b']],
  ['commit(), with a transaction(fn) that nobody awaits', (db) => { db.transaction(() => sleep(pause)); return db.commit() }, ['a', 'b']]
]

for (const strategy of strategies) {
  for (const way of ['request', 'scope()']) {
    t.test(`strategy '${strategy}', ${way}: what is not awaited is served once the connection is free`, async (t) => {
      for (const [name, ask] of Object.entries(second)) {
        for (const [end, go, rows] of name === 'app.db.query()' ? ends : ends.slice(3, 4)) {
          await t.test(`${name}, then ${end}`, async (t) => {
            const { app, ways, settled } = await setUp(t, strategy, async (db, engine, beside) => {
              await insert(db, 'a')
              beside(ask(engine))
              await go(db)
            })
            await ways[way]!()
            t.same(await settled(), ['fulfilled'])
            t.same(await saved(), rows)
            t.equal(app.db.stats().counters.refused, 0)
          })
        }
      }
    })

    t.test(`strategy '${strategy}', ${way}: what is handled without being awaited is served when the end begins at once`, async (t) => {
      for (const [end, go, rows] of ends.slice(0, 3)) {
        await t.test(end, async (t) => {
          const { ways, settled } = await setUp(t, strategy, async (db, engine, beside) => {
            await insert(db, 'a')
            beside(insert(engine, 'b').catch((error) => t.error(error)))
            await go(db)
          })
          await ways[way]!()
          t.same(await settled(), ['fulfilled'])
          t.same(await saved(), rows)
        })
      }
    })

    t.test(`strategy '${strategy}', ${way}: a connection that comes back once its cancel has arrived is waited for`, async (t) => {
      const { app, proxy, ways, settled } = await setUp(t, strategy, async (db, engine, beside) => {
        await insert(db, 'a')
        const running = db.query('SELECT pg_sleep(0.1)')
        running.catch(() => {})
        await waitFor(() => proxy.executed.includes('SELECT pg_sleep(0.1)'), { interval: 1 })
        proxy.delayCancels(400)
        beside(insert(engine, 'b').catch((error) => t.error(error)))
        throw new Error('no')
      })
      await t.rejects(ways[way]!(), { message: 'no' })
      t.same(await settled(), ['fulfilled'])
      t.same(await saved(), ['b'])
      t.equal(app.db.stats().counters.refused, 0)
    })

    t.test(`strategy '${strategy}', ${way}: a promise that is awaited later is refused then`, async (t) => {
      for (const [name, ask] of Object.entries(second)) {
        await t.test(name, async (t) => {
          const { app, ways } = await setUp(t, strategy, async (db, engine) => {
            await insert(db, 'a')
            const later = ask(engine)
            await sleep(pause)
            await later
          })
          await t.rejects(ways[way]!(), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' })
          t.same(await saved(), [])
          t.match(app.db.stats().counters, { refused: 1, timedOut: 0 })
        })
      }
    })

    t.test(`strategy '${strategy}', ${way}: an end that waits for a transaction(fn) which waits for a connection is refused`, async (t) => {
      const { app, ways } = await setUp(t, strategy, (db, engine) => {
        db.transaction(async (db) => {
          await insert(db, 'a')
          await insert(engine, 'b')
        })
      })
      await t.rejects(ways[way]!(), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' })
      t.same(await saved(), [])
      t.match(app.db.stats().counters, { refused: 1, timedOut: 0 })
    })
  }
}
