// A connection that ends at any message of the answer to ROLLBACK TO SAVEPOINT, or right behind it.
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { startTamperingProxy } from '../../../harness/tampering-proxy.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
const astray: unknown[] = []
process.on('unhandledRejection', (error) => astray.push(error))

const next: Record<string, (db: Session) => unknown> = {
  'a statement': (db) => db.query('SELECT 1'),
  'a statement that nobody awaits': (db) => { db.query('SELECT 1') },
  'a statement whose failure is caught': (db) => db.query('SELECT 1').catch(() => {}),
  'a stream': (db) => db.stream('SELECT 1').toArray(),
  'another transaction(fn)': (db) => db.transaction((db) => db.query('SELECT 1')),
  'a transaction(fn) without statements': (db) => db.transaction(() => {}),
  'commit()': (db) => db.commit(),
  'the answer': () => {},
  'the answer, a turn later': () => new Promise(setImmediate)
}

const ends = new Set(['a transaction(fn) without statements', 'commit()', 'the answer', 'the answer, a turn later'])

for (const [name, go] of Object.entries(next)) {
  t.test(`then ${name}: an error is answered, and nothing is saved`, async (t) => {
    const proxy = await startTamperingProxy(t, postgres)
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(pgScope, {
      connectionString: proxy.connectionString(postgres.connectionString), pool: { max: 1 }
    })
    app.get('/', async ({ db }) => {
      await db.query("INSERT INTO note VALUES ('lost')")
      await db.transaction(async (db) => {
        await db.query("INSERT INTO note VALUES ('undone')")
        throw new Error('no')
      }).catch(() => {})
      await go(db)
      return { ok: true }
    })
    app.get('/next', async ({ db }) => (await db.query('SELECT 1 AS one')).rows[0])
    let cut = true
    for (let last = 0; cut; last++) {
      cut = false
      let over = false
      proxy.arm('ROLLBACK TO', ({ type, bytes }, index) => {
        if (over) return bytes
        over = type === 'Z'
        if (index !== last) return bytes
        cut = over = true
        return { last: bytes }
      })
      await postgres.query('TRUNCATE note')
      const answer = await app.inject('/')
      proxy.disarm()
      if (!cut) break // the answer has no more messages
      t.ok([500, 503].includes(answer.statusCode), `message ${last}: ${answer.body}`)
      const { code } = answer.json()
      // What ends at once may have written COMMIT before the loss is seen.
      const unknown = ends.has(name) && code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
      if (!unknown) {
        t.equal(code, 'FST_PG_SCOPE_CONNECTION_LOST')
        t.same((await postgres.query('SELECT * FROM note')).rows, [])
      }
      await waitFor(() => app.db.stats().inUse === 0)
      t.match((await app.inject('/next')).json(), { one: 1 }, 'the next request is served')
    }
    t.same(astray.splice(0), [])
  })
}
