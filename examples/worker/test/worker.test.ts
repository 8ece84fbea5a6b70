import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import { startPostgres } from 'fastify-pg-scope/embedded'
import t, { type Test } from 'tap'
import { startExample } from '../../../harness/example-process.ts'

const folder = fileURLToPath(new URL('..', import.meta.url))

t.before(() => { execFileSync('npm', ['run', 'build', '--silent'], { cwd: folder }) })

t.test('without a database of yours it starts one, does what is to do there, and leaves nothing behind', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const worker = start(t, { DATABASE_URL: '', POLL_INTERVAL: '20' })
    await worker.until(() => worker.output().split('"msg":"done"').length > 8)
    worker.child.kill(signal)
    worker.child.kill(signal)
    t.same(await worker.ended, [0, null], signal)
    t.match(worker.output(), /finishing the jobs that run[^]*"msg":"stopped"/)
    t.notMatch(worker.output(), /"level":[56]0/)
  }
})

t.test('with workers that come, go and die, each job is done once', async (t) => {
  const { db, connectionString } = await openDatabase(t)
  const env = { DATABASE_URL: connectionString, POLL_INTERVAL: '20', CONCURRENCY: '3' }
  const first = start(t, env)
  const others = [start(t, env), start(t, env)]
  // On a busy machine one may be through with everything before the next has started.
  for (const { until, output } of [first, ...others]) await until(() => /ready for jobs/.test(output()))
  await db.query('insert into jobs (kind, payload) select \'letter\', jsonb_build_object(\'receiver\', n, \'milliseconds\', 50) from generate_series(1, 200) as n')
  const done = async (): Promise<number> => (await db.query('select count(*)::int as n from jobs where done_at is not null')).rows[0].n

  for (const { until, output } of [first, ...others]) await until(() => /"msg":"done"/.test(output()))
  first.child.kill('SIGTERM')
  others[0]!.child.kill('SIGKILL')
  t.same(await first.ended, [0, null])
  t.same(await others[0]!.ended, [null, 'SIGKILL'])
  const before = await done()
  t.ok(before < 200, `${before} of 200 when two of three have gone`)
  const last = start(t, env)
  await last.until(() => /ready for jobs/.test(last.output()))
  await last.until(async () => await done() === 200)
  for (const { child, ended } of [others[1]!, last]) {
    child.kill('SIGTERM')
    t.same(await ended, [0, null])
  }

  const { rows } = await db.query('select receiver from letters')
  t.equal(rows.length, 200, 'nothing is done twice')
  t.equal(new Set(rows.map(({ receiver }) => receiver)).size, 200, 'and nothing is lost')
  t.same((await db.query('select distinct attempts, error, failed_at from jobs')).rows, [{ attempts: 1, error: null, failed_at: null }])
  t.same((await db.query('select state from pg_stat_activity where application_name like \'pg-scope-worker%\'')).rows, [], 'no connection is left')
})

t.test('SIGTERM: a job that runs comes to its end, and no other begins', async (t) => {
  const { db, connectionString } = await openDatabase(t)
  const worker = start(t, { DATABASE_URL: connectionString, POLL_INTERVAL: '20', CONCURRENCY: '1' })
  await worker.until(() => /ready for jobs/.test(worker.output()))
  await db.query('insert into jobs (kind, payload) select \'letter\', \'{"receiver": "Ada", "milliseconds": 700}\' from generate_series(1, 3)')
  await worker.until(async () => (await db.query('select 1 from pg_stat_activity where state = \'idle in transaction\'')).rowCount === 1)
  worker.child.kill('SIGTERM')
  t.same(await worker.ended, [0, null])
  t.same((await db.query('select count(*)::int as done from jobs where done_at is not null')).rows, [{ done: 1 }])
  t.same((await db.query('select count(*)::int as letters from letters')).rows, [{ letters: 1 }])
})

t.test('a job that fails is undone, tried again, and given up at last', async (t) => {
  const { db, connectionString } = await openDatabase(t)
  const worker = start(t, { DATABASE_URL: connectionString, POLL_INTERVAL: '20', ATTEMPTS: '3' })
  await worker.until(() => /ready for jobs/.test(worker.output()))
  await db.query('insert into jobs (kind, payload) values (\'letter\', \'{"receiver": "nobody", "milliseconds": 1}\'), (\'parcel\', \'{}\'), (\'toString\', \'{}\')')
  await worker.until(async () => (await db.query('select 1 from jobs where failed_at is not null')).rowCount === 3)
  t.same((await db.query('select kind, attempts, error, done_at from jobs order by id')).rows, [
    { kind: 'letter', attempts: 3, error: 'Error: a letter needs a receiver', done_at: null },
    { kind: 'parcel', attempts: 3, error: 'Error: there is no handler for jobs of kind "parcel"', done_at: null },
    { kind: 'toString', attempts: 3, error: 'Error: there is no handler for jobs of kind "toString"', done_at: null }
  ])
  t.equal((await db.query('select 1 from letters')).rowCount, 0)
  worker.child.kill('SIGTERM')
  t.same(await worker.ended, [0, null])
})

t.test('what keeps it from running is said in a line', async (t) => {
  for (const env of [{ DATABASE_URL: 'postgres://worker:secret@127.0.0.1:1/jobs' }, { DATABASE_URL: '', CONCURRENCY: 'many' }]) {
    const worker = start(t, env)
    t.same(await worker.ended, [1, null])
    t.match(worker.output(), /^The worker cannot run: .*(?:127\.0\.0\.1:1|env\/CONCURRENCY must be integer)/m)
    t.notMatch(worker.output(), 'secret')
  }
})

async function openDatabase (t: Test) {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, applicationName: 'test' })
  return { db: app.db, connectionString: postgres.connectionString }
}

function start (t: Test, env: Record<string, string>) {
  return startExample(t, folder, env, 60_000)
}
