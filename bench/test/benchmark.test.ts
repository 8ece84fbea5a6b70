// The speed bench, with a handful of requests and without looking at the clock.
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { measureAllocation } from '../benchmark/allocation.ts'
import { bench } from '../benchmark/bench.ts'
import { chart } from '../benchmark/chart.ts'
import { Child } from '../benchmark/child.ts'
import { openNetwork } from '../benchmark/network.ts'
import { page } from '../benchmark/page.ts'
import { findPgbench, measureFloor } from '../benchmark/pgbench.ts'
import { planOf } from '../benchmark/plan.ts'
import { findPython } from '../benchmark/python.ts'
import { check, measure } from '../benchmark/round.ts'
import { countRoundTrips } from '../benchmark/round-trips.ts'
import { type RunningApp, startApp } from '../benchmark/running-app.ts'
import { measureScaling } from '../benchmark/scaling.ts'
import { createTables, entries } from '../benchmark/schema.ts'
import { listen } from '../benchmark/subject-app.ts'
import { type Setup, type SubjectName, subjectNames } from '../benchmark/subject.ts'
import { workloadNames } from '../benchmark/workloads.ts'
import { eachPgBouncer } from '../../harness/pgbouncer.ts'
import { startTestPostgres, type TestPostgres } from '../../harness/postgres.ts'
import { through } from '../../harness/variant.ts'

const length = { warmUp: 20, duration: 100 }

/**
 * An earlier build has to be named first. FastAPI's driver prepares statements, so that it needs a direct connection.
 */
const ofThisBuild = subjectNames.filter((name) => name !== 'before')
const available = through === 'direct' && await findPython() !== null ? ofThisBuild : ofThisBuild.filter((name) => name !== 'fastapi')

async function startServer (t: Test): Promise<TestPostgres> {
  const postgres = await startTestPostgres(t)
  await createTables(postgres)
  return postgres
}

/** An app that answers everything alike. */
async function startFake (t: Test, status: number, body: unknown): Promise<RunningApp> {
  const server = createServer((_request, response) => { response.writeHead(status).end(JSON.stringify(body)) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close(); server.closeAllConnections() })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, cpu: async () => ({ used: 0, at: performance.now() }), stop: async () => {} }
}

async function startLoad (t: Test): Promise<Child> {
  const [load] = await Child.start('load', null)
  t.teardown(() => load.stop())
  return load
}

/** In this process: those of their own are tried below. */
async function startHere (t: Test, subject: SubjectName, setup: Setup): Promise<RunningApp> {
  if (subject === 'fastapi') {
    const app = await startApp(subject, setup)
    t.teardown(() => app.stop())
    return app
  }
  const app = await listen(subject, setup)
  t.teardown(() => app.close())
  return { url: app.listeningOrigin, cpu: async () => ({ used: 0, at: 0 }), stop: () => app.close() }
}

const workloadsOf = (subject: SubjectName) => workloadNames.filter((name) => subject !== 'fastify' || name === 'plain')

t.test('every subject answers every workload as all the others do', { timeout: 240_000 }, async (t) => {
  const postgres = await startServer(t)
  if (!available.includes('fastapi')) t.comment('without FastAPI')
  for (const subject of available) {
    await t.test(subject, async (t) => {
      const app = await startHere(t, subject, { connectionString: postgres.connectionString, max: 2, unprepared: through !== 'direct', moreRoutes: 3 })
      for (const workload of workloadsOf(subject)) await t.resolves(check(app, workload, 3), workload)
    })
  }
})

t.test('those that are measured behind a PgBouncer, and postgres.js, work behind each', { timeout: 240_000 }, async (t) => {
  if (through !== 'direct') return t.comment('not behind another PgBouncer')
  const postgres = await startServer(t)
  await eachPgBouncer(t, async (t, { version }) => {
    const network = await openNetwork(postgres, { delay: 0, pooler: version })
    t.teardown(() => network.close())
    for (const subject of ['by-hand', 'postgres-js', 'pg-scope'] as const) {
      const app = await startHere(t, subject, { ...network, max: 2, moreRoutes: 0 })
      for (const workload of workloadsOf(subject)) await t.resolves(check(app, workload, 3), `${subject}: ${workload}`)
    }
  })
})

t.test('an answer that is not right ends the run', async (t) => {
  await t.resolves(check(await startFake(t, 200, { id: 1, owner: 'owner-1', balance: 0 }), 'read'))
  await t.rejects(check(await startFake(t, 200, { id: 1, owner: 'owner-2', balance: 0 }), 'read'), { message: /answered with 200/ })
  await t.rejects(check(await startFake(t, 201, { id: 1, owner: 'owner-1', balance: 0 }), 'read'), { message: /answered with 201/ })
})

t.test('a load that is not answered with successes, or wrongly, or that leaves no rows, ends the run', async (t) => {
  const postgres = await startServer(t)
  const load = await startLoad(t)
  const row = { id: 1, owner: 'owner-1', balance: 0 }
  await t.resolves(measure(postgres, load, await startFake(t, 200, row), 'read', 3, length))
  await t.rejects(measure(postgres, load, await startFake(t, 500, row), 'read', 3, length), { message: /× status 500/ })
  await t.rejects(measure(postgres, load, await startFake(t, 200, { ...row, owner: 'owner-2' }), 'read', 3, length), { message: /× wrong answer/ })
  await t.rejects(measure(postgres, load, await startFake(t, 201, { account: 1, amount: 1 }), 'write', 3, length), { message: /^update \+ insert: 0 rows for \d+ answers$/ })
})

t.test('a network of 2 ms delays by no less', async (t) => {
  const postgres = await startServer(t)
  const network = await openNetwork(postgres, { delay: 2, pooler: 'none' })
  t.teardown(() => network.close())
  t.ok(network.delay > 1.6, `${network.delay} ms`)
})

t.test('round trips are those that a client waits for', async (t) => {
  const postgres = await startServer(t)
  const counts = await countRoundTrips(postgres, 'by-hand', ['read', 'write', 'page', 'settings'])
  t.strictSame(counts.map(({ count }) => count), [3, 4, 7, 4])
})

t.test('allocated bytes and growth are measured without a fault', { timeout: 120_000 }, async (t) => {
  const postgres = await startServer(t)
  const few = { warmUps: 2, counted: 2, rounds: 1 }
  const [plain, read] = [await measureAllocation(postgres.connectionString, 'fastify', 'plain', few), await measureAllocation(postgres.connectionString, 'by-hand', 'read', few)]
  t.ok(plain.bytes > 1000 && read.bytes > plain.bytes, `${plain.bytes} without a database, ${read.bytes} with one`)
  const scalings = await measureScaling(postgres, 1, length, { routes: 20, waiting: 20 })
  t.strictSame(scalings.map(({ subject, what, few, many }) => [subject, what, few.count, many.count]), [
    ['by-hand', 'routes', 1, 20], ['by-hand', 'waiting requests', 10, 20],
    ['pg-scope', 'routes', 1, 20], ['pg-scope', 'waiting requests', 10, 20]
  ])
  t.ok(scalings.every(({ few, many }) => few.cpu > 0 && many.cpu > 0))
})

t.test('pgbench runs the same statements', async (t) => {
  if (await findPgbench() === null || through !== 'direct') return t.comment('without pgbench')
  const postgres = await startServer(t)
  const network = await openNetwork(postgres, { delay: 0, pooler: 'none' })
  const floors = await measureFloor(network, 0, 3)
  t.strictSame(floors.map(({ workload, way }) => [workload, way]), [
    ['read', 'one by one'], ['read', 'in one pipeline'], ['write', 'one by one'], ['write', 'in one pipeline']
  ])
  t.ok(await entries(postgres) > 0)
})

t.test('a run shows each subject with each workload, in figures, in the page and in the chart', { timeout: 120_000 }, async (t) => {
  const results = await bench({
    plan: planOf({ subjects: ['by-hand', 'pg-scope'], workloads: ['read', 'write'], connections: [3] }),
    parts: ['speed', 'round-trips'],
    rounds: 2,
    length,
    command: 'npm run bench',
    execArgv: () => [],
    say: (line) => t.comment(line)
  })
  t.strictSame(results.measured.map(({ subject, workload, rounds }) => [workload, subject, rounds.length]), [
    ['read', 'by-hand', 2], ['read', 'pg-scope', 2], ['write', 'by-hand', 2], ['write', 'pg-scope', 2]
  ])
  for (const { rounds } of results.measured) {
    for (const { perSecond, p50, p99, cpu } of rounds) t.ok(perSecond > 0 && p50 > 0 && p99 >= p50 && cpu > 0)
  }
  t.match(page(results), /\| update \+ insert \| \*\*fastify-pg-scope\*\* \| \d+ \| \d/)
  t.match(chart(results), /^<svg .*<\/svg>\n$/s)
})
