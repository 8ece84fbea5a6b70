import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startPgBouncer, eachPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { cases, limit, openApp, type Place } from './strategy-cases.ts'

const db = await startTestPostgres(t, { settings: { logging_collector: 'on', log_filename: 'server.log' } })
await db.query('CREATE TABLE things (id int)')
// Superusers have no limit.
await db.query(`CREATE ROLE app LOGIN PASSWORD 'app' CONNECTION LIMIT ${limit}`)
await db.query('GRANT ALL ON things TO app')

const strategies = ['queue', 'null'] as const

async function runAll (t: Test, place: Place): Promise<void> {
  for (const strategy of strategies) {
    await t.test(`strategy '${strategy}'`, async (t) => {
      for (const { name, run, only } of cases) {
        if (only !== undefined && only !== strategy) continue
        await t.test(name, (t) =>
          run(t, (t, pool, options) => openApp(t, place, { ...options, pool: { ...pool, strategy } }), place, strategy))
      }
    })
  }
}

const things = async (): Promise<number> => (await db.query('SELECT count(*)::int AS things FROM things')).rows[0].things
const kill: Place['kill'] = async (session) => {
  const { rows: [{ pid }] } = await session.query('SELECT pg_backend_pid() AS pid')
  await db.query('SELECT pg_terminate_backend($1, 5000)', [pid])
}

// test/variants leaves this file out: it has all variants in itself.
t.test('directly', async (t) => {
  const url = new URL(db.connectionString)
  url.username = url.password = 'app'
  const log = join(db.dataFolder, 'log', 'server.log')
  await runAll(t, {
    connectionString: url.href,
    count: async () => (await db.activity()).length,
    refusals: async () => (await readFile(log, 'utf8')).split('too many connections').length - 1,
    kill,
    things
  })
})

t.test('through PgBouncer', async (t) => {
  await eachPgBouncer(t, async (t, program) => {
    for (const poolMode of ['transaction', 'session'] as const) {
      await t.test(`in ${poolMode} mode`, async (t) => {
        const pgbouncer = await startPgBouncer(t, db, { program, poolMode, settings: { max_client_conn: limit } })
        await runAll(t, {
          connectionString: pgbouncer.connectionString,
          count: async () => (await pgbouncer.admin('SHOW CLIENTS')).filter(({ database }) => database !== 'pgbouncer').length,
          refusals: async () => null,
          kill,
          things
        })
      })
    }
  })
})
