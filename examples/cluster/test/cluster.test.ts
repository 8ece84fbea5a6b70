import t, { type Test } from 'tap'
import { send } from '../../../harness/http-client.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startPostgres } from '../../../lib/embedded/index.ts'
import { buildCluster, startProcesses as start } from './processes.ts'

t.before(buildCluster)

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

t.test('several processes serve behind one PgBouncer', async (t) => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, {
      program, settings: { stats_users: postgres.user, max_client_conn: 100 }
    })
    const cluster = start(t, { DATABASE_URL: pgbouncer.connectionString, WORKERS: '3', POOL_MAX: '5', PORT: '0', LOG_LEVEL: 'warn' })
    const port = await cluster.port()
    t.match(cluster.output(), '3 processes × pool.max 5 = 15 connections, 20 while one is replaced; max_client_conn of PgBouncer: 100.\n')
    t.notMatch(cluster.output(), 'WARNING')

    const pids = await pidsOf(t, port, 30)
    t.equal(pids.size, 3)
    const pool = JSON.parse((await send(port, { path: '/pool' })).body)
    t.match(pool, { max: 5, pooler: { kind: 'pgbouncer' } })

    // Requests go on all the while.
    const over = new AbortController()
    t.teardown(() => over.abort())
    const statuses = new Set<number>()
    const clients = [1, 2, 3].map(async () => { while (!over.signal.aborted) statuses.add((await send(port)).status) })
    cluster.child.kill('SIGHUP')
    await cluster.until(/All processes have been replaced/)
    over.abort()
    await Promise.all(clients)
    t.same([...statuses], [200])
    const renewed = await pidsOf(t, port, 30)
    t.equal(renewed.size, 3)
    t.same([...renewed].filter((pid) => pids.has(pid)), [], 'other processes')

    process.kill([...renewed][0]!, 'SIGKILL')
    await cluster.until(/has died \(SIGKILL\), and is replaced/)
    let now = renewed
    for (let i = 0; i < 100 && (now.size < 3 || now.has([...renewed][0]!)); i++) now = await pidsOf(t, port, 30)
    t.equal(now.size, 3)

    cluster.child.kill('SIGTERM')
    cluster.child.kill('SIGTERM')
    t.same(await cluster.ended, [0, null])
    t.same([...now].filter(alive), [], 'every process has ended')
    t.same((await pgbouncer.admin('SHOW CLIENTS')).filter(({ database }) => database !== 'pgbouncer'), [], 'and every connection')
    t.notMatch(cluster.output(), /"level":[56]0/)
  })
})

t.test('more connections than there are: a warning at the start', async (t) => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, {
      program, settings: { stats_users: postgres.user, max_client_conn: 25 }
    })
    const cluster = start(t, { DATABASE_URL: pgbouncer.connectionString, WORKERS: '2', PORT: '0' })
    await cluster.port()
    t.match(
      cluster.output(),
      /2 processes × pool\.max 10 = 20 connections, 30 while one is replaced; max_client_conn of PgBouncer: 25\.\nWARNING: .*lower POOL_MAX or WORKERS, or raise max_client_conn of PgBouncer/
    )
    cluster.child.kill('SIGINT')
    t.same(await cluster.ended, [0, null])
  })
})

t.test('where PgBouncer does not tell, and without one, PostgreSQL is asked', async (t) => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program })
    const cluster = start(t, { DATABASE_URL: pgbouncer.connectionString, WORKERS: '1', PORT: '0' })
    await cluster.port()
    t.match(
      cluster.output(),
      /1 processes .*; max_connections of PostgreSQL: 97\. \(PgBouncer does not tell this user its max_client_conn/
    )
    cluster.child.kill('SIGTERM')
    t.same(await cluster.ended, [0, null])
  })
  const cluster = start(t, { DATABASE_URL: postgres.connectionString, WORKERS: '2', POOL_MAX: '40', PORT: '0' })
  await cluster.port()
  t.match(cluster.output(), /80 connections, 120 while one is replaced; max_connections of PostgreSQL: 97\.\nWARNING/)
  cluster.child.kill('SIGTERM')
  t.same(await cluster.ended, [0, null])
})

t.test('what keeps it from running is said, and ends it', async (t) => {
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /cannot run: env must have required property 'DATABASE_URL'/],
    [{ DATABASE_URL: 'postgres://app:secret@127.0.0.1:1/shop' }, /cannot run: .*ECONNREFUSED/],
    [{ DATABASE_URL: postgres.connectionString, WORKERS: '2', PORT: String(postgres.port) }, /cannot run: .*EADDRINUSE/]
  ]
  for (const [env, said] of cases) {
    const cluster = start(t, env)
    t.same(await cluster.ended, [1, null])
    t.match(cluster.output(), said)
    t.notMatch(cluster.output(), 'secret')
  }
})

async function pidsOf (t: Test, port: number, count: number): Promise<Set<number>> {
  const answers = await Promise.all(Array.from({ length: count }, () => send(port)))
  return new Set(answers.map(({ body }) => JSON.parse(body).pid))
}

function alive (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
