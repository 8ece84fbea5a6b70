import { setTimeout as sleep } from 'node:timers/promises'
import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)

t.test('a statement that waits for a transaction(fn) for seconds is named in the log, and a short wait is not', async (t) => {
  const lines: { msg: string, statement?: string, route?: string }[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  // An emitter calls its listeners in the async context of emit(), so this statement does not belong to fn.
  const outside = new EventEmitter()
  app.get('/short', async ({ db }) => {
    const fn = db.transaction(() => sleep(50))
    await Promise.all([fn, db.query('SELECT 1')])
  })
  app.get('/long', async ({ db }) => {
    const waiting = once(outside, 'go').then(() => db.query('SELECT $1::text AS waits', ['s3cret']))
    const fn = db.transaction(async (db) => {
      await db.query('SELECT 1')
      await Promise.race([waiting, waitFor(() => lines.length > 0)])
    })
    await new Promise(setImmediate)
    outside.emit('go')
    await Promise.all([fn, waiting, ...Array.from({ length: 1000 }, () => db.query('SELECT 2'))])
    return {}
  })
  t.equal((await app.inject('/short')).statusCode, 200)
  t.equal((await app.inject('/long')).statusCode, 200)
  t.equal(lines.length, 1, 'once')
  t.match(lines[0], { route: 'GET /long', msg: /transaction\(fn\)/ })
  t.ok(['SELECT $1::text AS waits', 'SELECT 2'].includes(lines[0]!.statement!), 'it is named')
  t.notMatch(JSON.stringify(lines), /s3cret/)
})
