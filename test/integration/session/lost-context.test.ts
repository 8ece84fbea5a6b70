import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

t.test('code that has lost its async context goes on with the session that fn was handed', async (t) => {
  const postgres = await startTestPostgres(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  // A listener that was set up outside runs in the context of whoever emits, here a timer of its own.
  const bus = new EventEmitter()
  const timer = setInterval(() => bus.emit('tick'), 5)
  t.teardown(() => clearInterval(timer))

  const rows = await app.db.scope(async (session) => session.transaction(async (inner) => {
    await inner.query('CREATE TEMP TABLE lost (n int) ON COMMIT DROP')
    const written = new Promise((resolve, reject) => bus.once('tick', () => inner.query('INSERT INTO lost VALUES (1)').then(resolve, reject)))
    await Promise.all([written, once(bus, 'tick')])
    return (await inner.query('SELECT n FROM lost')).rows
  }))
  t.strictSame(rows, [{ n: 1 }])
})
