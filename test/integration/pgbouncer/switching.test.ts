import t, { type Test } from 'tap'
import { startApp, type TestApp } from './app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { compareVersions, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { selectPgBouncers } from '../../../harness/pgbouncer/selection.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Pooler } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (id int)')

interface Target {
  name: string
  host: string
  port: number
  pooler: Pooler
}

const { programs, missing } = await selectPgBouncers()
const targets: Target[] = [{ name: 'the server', host: postgres.host, port: postgres.port, pooler: { kind: 'none' } }]
for (const program of programs) {
  const { host, port, version } = await startPgBouncer(t, postgres, { program })
  const told = compareVersions(version, '1.26') >= 0
  targets.push({ name: `PgBouncer ${version}`, host, port, pooler: { kind: 'pgbouncer', mode: 'transaction', ...(told && { version }), preparedStatements: told } })
}

/** What each of them does is done once and counts as one row. */
function kindsOfWork ({ app, db }: TestApp): (() => Promise<unknown>)[] {
  return [
    async () => {
      const { statusCode, body } = await app.inject('/')
      if (statusCode !== 200) throw new Error(body)
    },
    () => db.query({ name: 'single', text: 'INSERT INTO things VALUES (1)' }),
    () => db.scope(async (session) => {
      await session.stream('SELECT generate_series(1, 3)').toArray()
      await session.query('INSERT INTO things VALUES (1)')
    })
  ]
}

/** All kinds of work, over and over, each three times at once. */
function startLoad (started: TestApp) {
  const over = new AbortController()
  let served = 0
  const failures: string[] = []
  const workers = kindsOfWork(started).flatMap((work) => Array.from({ length: 3 }, async () => {
    while (!over.signal.aborted) await work().then(() => { served++ }, (error) => { failures.push(`${error.code} ${error.message}`) })
  }))
  return {
    failures,
    get served () { return served },
    /** Resolves when this many more have been served, or something failed. */
    async more (count: number) {
      const goal = served + count
      await waitFor(() => served >= goal || failures.length > 0, { timeout: 20000 })
    },
    async stop () {
      over.abort()
      await Promise.all(workers)
    }
  }
}

async function setUp (t: Test, from: Target, strategy: 'queue' | 'null') {
  const proxy = await startPgProxy(t, from)
  // No connection is kept for long, so that there are new ones all the time.
  const started = await startApp(t, {
    connectionString: proxy.connectionString(postgres.connectionString),
    statementTimeout: 20000,
    pool: { strategy, max: 4, maxLifetime: 50 }
  })
  started.app.get('/', async (request) => {
    const { rows: [{ timeout }] } = await request.db.query({ name: 'one', text: 'SELECT current_setting(\'statement_timeout\') AS timeout' })
    if (timeout !== '20s') throw new Error(`statement_timeout is ${timeout}`)
    await request.db.query({ name: 'two', text: 'INSERT INTO things VALUES (1)' })
  })
  t.same(started.db.pooler, from.pooler)
  await postgres.query('TRUNCATE things')
  return { ...started, proxy }
}

const rows = async (): Promise<number> => (await postgres.query('SELECT count(*)::int AS count FROM things')).rows[0].count
const changes = ({ log }: TestApp) =>
  log.filter(({ level }) => level > 30).map(({ msg, before, pooler }) => ({ msg, before, pooler }))

/** By what is known from then on, statements are refused or not. */
async function obeys (t: Test, { db }: TestApp, to: Target): Promise<void> {
  const listen = db.query('LISTEN news')
  if (to.pooler.kind === 'none') await listen
  else await t.rejects(listen, { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' })
}

/** PgBouncers before 1.26 say nothing by themselves, and without kept connections each session would have to ask. */
const asksNowAndThen = (from: Target, strategy: string): boolean => strategy === 'null' && from.pooler.kind === 'pgbouncer' && from.pooler.version === undefined

for (const strategy of ['queue', 'null'] as const) {
  for (const from of targets) {
    for (const to of targets) {
      if (from === to || asksNowAndThen(from, strategy)) continue
      t.test(`'${strategy}': ${to.name} behind the address where ${from.name} was is noticed with a new connection, and no request fails`, async (t) => {
        const started = await setUp(t, from, strategy)
        const load = startLoad(started)
        await load.more(30)
        started.proxy.redirect(to)
        await waitFor(() => changes(started).length > 0 || load.failures.length > 0, { timeout: 20000 })
        await load.more(100)
        await load.stop()
        t.same(load.failures, [])
        t.same(started.db.pooler, to.pooler)
        t.equal(await rows(), load.served, 'each once')
        // A connection that was opened just before may say last what was true then.
        const told = changes(started)
        t.same(new Set(told.map(({ msg }) => msg)), new Set(['what stands between this process and PostgreSQL has changed']))
        t.same([told[0]!.before, told.at(-1)!.pooler], [from.pooler, to.pooler])
        await obeys(t, started, to)
      })
    }
  }
}

for (const from of targets.filter((target) => asksNowAndThen(target, 'null'))) {
  t.test(`'null': what comes behind the address where ${from.name} was is noticed within ten seconds, without asking each time`, async (t) => {
    for (const to of targets) {
      if (from === to) continue
      const started = await setUp(t, from, 'null')
      const { proxy, db } = started
      const work = kindsOfWork(started)
      const clock = performance.now.bind(performance)
      t.teardown(() => { performance.now = clock })
      for (const run of work) await run()
      proxy.reset()
      for (const run of work) await run()
      t.notOk(proxy.executed.includes('SELECT pg_backend_pid()'), 'nobody was asked again')
      proxy.redirect(to)
      performance.now = () => clock() + 10000
      for (const run of work) await run()
      t.same(db.pooler, to.pooler)
      t.same(changes(started), [{ msg: 'what stands between this process and PostgreSQL has changed', before: from.pooler, pooler: to.pooler }])
      t.equal(await rows(), 9)
      await obeys(t, started, to)
      performance.now = clock
    }
  })
}

for (const name of missing) t.fail(`${name} is not installed: .ci/poolers prepares it`)
