import t from 'tap'
import { startApp } from './app.ts'
import { eachPlace, type Place } from './places.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine, Pooler } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
const everywhere = ['direct', 'transaction', 'session'] as const
const strategies = ['queue', 'null'] as const

/** Before 1.26 nothing tells the mode, and the stricter one is assumed. */
function expected ({ mode, announced, pgbouncer }: Place): Pooler {
  if (mode === 'direct') return { kind: 'none' }
  return announced ? { kind: 'pgbouncer', mode, version: pgbouncer!.version, preparedStatements: true } : { kind: 'pgbouncer', mode: 'transaction', preparedStatements: false }
}

async function work (db: Engine): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await Promise.all([db.scope((session) => session.query('SELECT 1')), db.query('SELECT 1')])
  }
}

t.test('what stands in between is found at startup: app.db.pooler and one line in the log say it', async (t) => {
  await eachPlace(t, postgres, everywhere, async (t, place) => {
    for (const strategy of strategies) {
      const { db, log } = await startApp(t, { connectionString: place.connectionString, pool: { strategy } })
      t.same(db.pooler, expected(place))
      await work(db)
      t.same(db.pooler, expected(place), 'later connections change nothing')
      t.match(log, [{
        level: 30,
        msg: `connected to database "${postgres.database}" on ${place.host}:${place.port} as user "${postgres.user}"${place.mode === 'direct' ? '' : ' behind PgBouncer'}`,
        pooler: expected(place)
      }])
      t.equal(log.length, 1)
      t.notOk(JSON.stringify(log).includes(postgres.password))
    }
  })
})

t.test('without a startup check it is found with the first connection', async (t) => {
  await eachPlace(t, postgres, ['direct', 'transaction'], async (t, place) => {
    for (const first of [(db: Engine) => db.scope((session) => session.query('SELECT 1')), (db: Engine) => db.query('SELECT 1')]) {
      const { db, log } = await startApp(t, { connectionString: place.connectionString, startupCheck: false })
      t.same(db.pooler, { kind: 'unknown' })
      t.same(log, [])
      await first(db)
      t.same(db.pooler, expected(place))
      t.match(log, [{ level: 30, pooler: expected(place) }])
      t.equal(log.length, 1)
    }
  })
})

t.test('a configured pooler is not questioned, and nothing is asked of the server', async (t) => {
  await eachPlace(t, postgres, everywhere, async (t, place) => {
    const proxy = await startPgProxy(t, place)
    const connectionString = proxy.connectionString(place.connectionString)
    for (const strategy of strategies) {
      for (const pooler of ['none', 'session', 'transaction'] as const) {
        // Said to be in session mode, it is believed to keep what is prepared.
        const { db, log } = await startApp(t, { connectionString, pooler, pool: { strategy }, ...(place.mode === 'transaction' && { preparedStatements: false }) })
        t.same(db.pooler, pooler === 'none' ? { kind: 'none' } : { kind: 'pgbouncer', mode: pooler, preparedStatements: pooler === 'session' && place.mode !== 'transaction' })
        proxy.reset()
        if (pooler === 'none' && place.mode !== 'direct') {
          // Nothing else is taken for a direct connection, and then the answer has to say what is wrong.
          await t.rejects(db.query('SELECT 1'), { code: 'FST_PG_SCOPE_UNREACHABLE', details: /unsupported startup parameter: idle_in_transaction_session_timeout/ })
        } else {
          await work(db)
          t.notOk(proxy.executed.some((text) => text.includes('pg_backend_pid')), 'nobody was asked')
        }
        t.same(log, [])
      }
    }
  })
})

t.test('preparedStatements, said by hand, wins over what was found', async (t) => {
  await eachPlace(t, postgres, ['direct', 'transaction'], async (t, place) => {
    const prepared = async (options: { preparedStatements?: boolean, pooler?: 'transaction' }): Promise<number> => {
      const what = JSON.stringify(options).replaceAll('"', '')
      const { db } = await startApp(t, { connectionString: place.connectionString, pool: { max: 1 }, ...options })
      return await db.scope(async (session) => {
        await session.query({ name: what, text: `SELECT 1 AS "${what}"` })
        return (await session.query('SELECT 1 FROM pg_prepared_statements WHERE statement = $1', [`SELECT 1 AS "${what}"`])).rowCount!
      })
    }
    t.equal(await prepared({}), place.mode === 'direct' || place.announced ? 1 : 0)
    t.equal(await prepared({ preparedStatements: false }), 0)
    t.equal(await prepared({ pooler: 'transaction' }), 0)
    if (place.pgbouncer?.version.startsWith('1.18.')) return // which cannot
    t.equal(await prepared({ preparedStatements: true }), 1)
    t.equal(await prepared({ pooler: 'transaction', preparedStatements: true }), 1)
  })
})
