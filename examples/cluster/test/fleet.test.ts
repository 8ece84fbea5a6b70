import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { openRequest, send } from '../../../harness/http-client.ts'
import { compareVersions, findPgBouncers, startPgBouncers } from '../../../harness/pgbouncer.ts'
import { startCluster } from '../../../harness/standby.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { buildCluster, startProcesses } from './processes.ts'

t.before(buildCluster)

const program = (await findPgBouncers()).at(-1)
const skip = (program === undefined || compareVersions(program.version, '1.19') < 0) && 'no PgBouncer with peers'
const wait = { timeout: 60_000 }

t.test('processes behind two PgBouncers on one port, with a replica and a leader: all are restarted in turn, and no request fails with a process', { skip }, async (t) => {
  const { primary, standbys: [replica] } = await startCluster(t)
  const bouncers = await startPgBouncers(t, primary, 2, { program })
  const cluster = startProcesses(t, {
    DATABASE_URL: bouncers[0]!.connectionString,
    DIRECT_URL: primary.connectionString,
    REPLICA_URLS: replica!.connectionString,
    POSITION_SECRET: 'the same for all processes',
    INSPECTOR_TOKEN: 'let me see',
    WORKERS: '2',
    POOL_MAX: '4',
    PORT: '0',
    LOG_LEVEL: 'warn'
  })
  const port = await cluster.port()
  interface Answer { pid: number, leads: boolean, replica: boolean }
  const ask = async (): Promise<Answer[]> => (await Promise.all(Array.from({ length: 12 }, async () => {
    const { socket, response } = openRequest(port)
    // A connection that node:cluster has handed to a process that was killed is never answered.
    const timer = setTimeout(() => socket.destroy(), 3000)
    const { status, body } = await response
    clearTimeout(timer)
    socket.destroy()
    return status === 200 ? [JSON.parse(body) as Answer] : []
  }))).flat()
  const leader = async (): Promise<number | undefined> => (await ask()).find(({ leads }) => leads)?.pid
  const first = await waitFor(leader, wait)
  const answers = await ask()
  t.same(new Set(answers.filter(({ leads }) => leads).map(({ pid }) => pid)), new Set([first]), 'one process leads')
  t.same(new Set(answers.map(({ replica }) => replica)), new Set([true]), 'reads run on the replica')
  const authorization = 'Bearer let me see'
  t.match(await send(port, { path: '/inspector' }), { status: 403 })
  t.match(await send(port, { path: '/inspector/state', headers: { authorization } }), { status: 200 })

  const ended = new AbortController()
  t.teardown(() => ended.abort())
  const whilePoolers = new Set<unknown>()
  const whileProcesses = new Set<unknown>()
  let seen = whilePoolers
  const clients = ['/', '/count', '/count'].map(async (path) => {
    while (!ended.signal.aborted) {
      const phase = seen
      const { status, body } = await send(port, { path, ...(path === '/count' && { method: 'POST' }) })
      // A login that the kernel had given to the PgBouncer that stops is cut off.
      if (status !== 503 || phase !== whilePoolers || !/FST_PG_SCOPE_UNREACHABLE/.test(body)) phase.add(`${status} ${status === 200 ? '' : body}`)
      await sleep(5)
    }
  })
  for (const bouncer of bouncers) {
    await bouncer.stop('SIGINT')
    await bouncer.start()
  }
  seen = whileProcesses
  cluster.child.kill('SIGHUP')
  await cluster.until(/All processes have been replaced/)
  ended.abort()
  await Promise.all(clients)
  t.same([...whilePoolers], ['200 '], 'no connection in use breaks with a PgBouncer')
  t.same([...whileProcesses], ['200 '], 'no request fails with a process')
  const second = await waitFor(leader, wait)
  t.not(second, first, 'another process leads')
  process.kill(second, 'SIGKILL')
  t.ok(await waitFor(async () => {
    const now = await leader()
    return now !== undefined && now !== second
  }, wait), 'and another one after its death')
  cluster.child.kill('SIGTERM')
  t.same(await cluster.ended, [0, null])
})

t.test('a CancelRequest reaches the PgBouncer that serves its connection', { skip }, async (t) => {
  const { primary } = await startCluster(t, { standbys: 0 })
  const [bouncer] = await startPgBouncers(t, primary, 2, { program })
  const observer = new pg.Client({ connectionString: primary.connectionString })
  await observer.connect()
  t.teardown(() => observer.end())
  const { default: pgScope } = await import('../../../lib/index.ts')
  const { default: Fastify } = await import('fastify')
  const app = Fastify()
  await app.register(pgScope, { connectionString: bouncer!.connectionString, pool: { max: 1 } })
  t.teardown(() => app.close())
  // The connection of the request goes to either of them, at random.
  for (let i = 0; i < 6; i++) {
    const controller = new AbortController()
    const query = app.db.query({ text: 'SELECT pg_sleep(300)', signal: controller.signal })
    const sleeps = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'"
    await waitFor(async () => (await observer.query(sleeps)).rowCount === 1, wait)
    controller.abort()
    await t.rejects(query)
    await waitFor(async () => (await observer.query(sleeps)).rowCount === 0, wait)
  }
})
