// pg-boss and graphile-worker: a job is queued when the request commits.
import { makeWorkerUtils, quickAddJob } from 'graphile-worker'
import PgBoss from 'pg-boss'
import t from 'tap'
import { clientOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

t.test('pg-boss starts on the engine, and sends a job in the transaction of the request', async (t) => {
  const shop = await startShop(t, postgres)
  const { app, database } = shop
  const pool = poolOf(app.db)
  const db = { executeSql: (text: string, values: unknown[]) => pool.query(text, values) }
  const boss = new PgBoss({ db, supervise: false, schedule: false })
  const failed: unknown[] = []
  boss.on('error', (error) => failed.push(error))
  await boss.start()
  t.teardown(() => boss.stop({ graceful: false }))
  await boss.createQueue('mail')
  await commitAndRollBack(t, shop, async (to, request) => {
    await request.db.query('INSERT INTO person (full_name) VALUES ($1)', [to])
    t.type(await boss.send('mail', { to }), 'string')
    t.type(await boss.send('mail', { to }, { db: { executeSql: (text, values) => clientOf(request.db).query(text, values) } }), 'string')
  })
  const { rows } = await postgres.query('SELECT data FROM pgboss.job', undefined, database)
  t.same(rows, [{ data: { to: 'Alan' } }, { data: { to: 'Alan' } }])
  t.same((await boss.fetch('mail', { batchSize: 5 }))?.map(({ data }) => data), [{ to: 'Alan' }, { to: 'Alan' }])
  t.same(failed, [])
})

t.test('graphile-worker installs its schema on the engine, and adds a job in the transaction of the request', async (t) => {
  const shop = await startShop(t, postgres)
  const { app, database } = shop
  const pgPool = poolOf(app.db)
  pgPool.on('error', () => {}).on('connect', () => {})
  const utils = await makeWorkerUtils({ pgPool })
  await utils.migrate()
  await commitAndRollBack(t, shop, async (to, request) => {
    await request.db.query('INSERT INTO person (full_name) VALUES ($1)', [to])
    await utils.addJob('mail', { to })
    await quickAddJob({ pgPool }, 'mail', { to })
    await request.db.query("SELECT graphile_worker.add_job('mail', $1::json)", [{ to }])
  })
  const { rows } = await postgres.query('SELECT payload FROM graphile_worker._private_jobs', undefined, database)
  t.same(rows, Array.from({ length: 3 }, () => ({ payload: { to: 'Alan' } })))
  await utils.release()
})
