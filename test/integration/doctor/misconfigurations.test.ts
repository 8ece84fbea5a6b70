import pg from 'pg'
import t, { type Test } from 'tap'
import { gather } from '../../../lib/cli/doctor/gather.ts'
import { judge } from '../../../lib/cli/doctor/judge.ts'
import { resolveByPlugin } from '../../../lib/cli/doctor/plugin-options.ts'
import type { Facts } from '../../../lib/cli/doctor/facts.ts'
import { startPostgres } from '../../../lib/embedded/index.ts'
import { parse } from '../../../harness/pgbouncer/configuration.ts'
import { findPgBouncers, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { switchTlsOn } from '../../../harness/server-tls.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { PgScopeOptions } from '../../../types/options.ts'
import { readFileSync } from 'node:fs'
import { groupsOf, type Place, type Seed, seeds, startFaultyProxy } from './seeds.ts'

t.setTimeout(240_000)
const postgres = await startTestPostgres(t, { password: 's3cret', settings: { max_connections: 100 } })
await postgres.query('CREATE ROLE app LOGIN PASSWORD \'s3cret\'; GRANT pg_read_all_stats TO app')
const direct = `postgres://app:s3cret@${postgres.host}:${postgres.port}/postgres`
// A transaction of another session, which is idle for long enough by the time that it is looked for.
const holder = new pg.Client({ connectionString: postgres.connectionString, application_name: 'forgetful job' })
await holder.connect()
t.teardown(() => holder.end())
await holder.query('BEGIN')
await holder.query('SELECT \'a secret value\'')
const programs = await findPgBouncers()
// Its own login may use the console, so that `--admin` is not needed.
const place = programs.length < 2 ? null : await startPlace(programs.at(-1)!)

async function startPlace (program: typeof programs[number]): Promise<Place> {
  const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { admin_users: 'app' } })
  return { postgres, direct, pgbouncer, pooled: `postgres://app:s3cret@${pgbouncer.host}:${pgbouncer.port}/postgres` }
}

async function facts (options: PgScopeOptions): Promise<Facts> {
  return await gather({ options: await resolveByPlugin(options), source: 'the test', bootFailure: null, admin: null })
}

/** The session that is idle in transaction is there throughout. */
async function diagnose (options: PgScopeOptions, processes = 1) {
  return judge(await facts(options), processes).filter(({ id }) => id !== 'idle-in-transaction')
}

t.test('a plain embedded PostgreSQL and the plugin\'s defaults: nothing to report', async (t) => {
  const plain = await startPostgres()
  t.teardown(() => plain.stop())
  const found = await facts({ connectionString: plain.connectionString })
  t.same(judge(found, 1), [])
  t.same(found.unread, [])
  t.match(found, { pooler: { kind: 'none' }, probes: { pipelining: 'works', cancel: 'works' }, server: { maxConnections: 100 } })
})

t.test('the recommended pgbouncer.ini and the plugin\'s defaults: nothing to report', { skip: place === null && 'no PgBouncer' }, async (t) => {
  const found = await facts({ connectionString: place!.pooled })
  t.same(judge(found, 1).filter(({ id }) => id !== 'idle-in-transaction'), [])
  t.same(found.unread, [])
  t.match(found, {
    pooler: { kind: 'pgbouncer', mode: 'transaction', version: place!.pgbouncer.version, announced: true },
    probes: { pipelining: 'works', cancel: 'works' }
  })
})

const recommended = parse(readFileSync(new URL('../../../docs/pgbouncer.ini', import.meta.url), 'utf8'), '99').pgbouncer
/** PgBouncer's defaults of what docs/pgbouncer.ini leaves alone. */
const defaults: Record<string, string> = { max_db_connections: '0', ignore_startup_parameters: '', server_reset_query_always: '0' }

async function plant (t: Test, group: Seed[]): Promise<string[]> {
  const [{ behind, url = '', processes }] = group as [Seed]
  const sql = group.flatMap(({ sql }) => sql === undefined ? [] : [sql])
  const set: Record<string, string | number> = Object.assign({}, ...group.map(({ set }) => set))
  const options: PgScopeOptions = Object.assign({}, ...group.map(({ options }) => options))
  for (const [before] of sql) await postgres.query(before)
  for (const [key, value] of Object.entries(set)) await place!.pgbouncer.set(key, value)
  try {
    const findings = await diagnose({ ...options, connectionString: `${place![behind]}${url}` }, processes)
    for (const { found, why, change } of findings) {
      t.ok(found !== '' && why !== '' && change.line !== '')
      t.notMatch(JSON.stringify({ found, why, change }), /s3cret|secret value|undefined|NaN/)
    }
    return findings.map(({ id, severity }) => `${severity} ${id}`)
  } finally {
    for (const [, after] of sql) await postgres.query(after)
    for (const key of Object.keys(set)) await place!.pgbouncer.set(key, recommended.get(key) ?? defaults[key]!)
  }
}

t.test('each of the seeded misconfigurations is found, and little else is said', { skip: place === null && 'no PgBouncer' }, async (t) => {
  await switchTlsOn(postgres)
  let found = 0
  for (const group of groupsOf(seeds)) {
    const findings = await plant(t, group)
    for (const { severity, id, what } of group) {
      if (t.ok(findings.includes(`${severity} ${id}`), what, { findings })) found++
    }
    t.ok(findings.length <= group.length + 2, findings.join(', '))
  }
  t.equal(found, seeds.length)
  t.same(await diagnose({ connectionString: place!.pooled }), [], 'and nothing is left afterwards')
})

t.test('a session that is idle in transaction is reported with its holder, and without its statement', async (t) => {
  const [finding] = await waitFor(async () => {
    const findings = judge(await facts({ connectionString: direct }), 1)
    return findings.length > 0 && findings
  }, { timeout: 15_000, message: 'it is idle for five seconds' })
  t.match(finding, { id: 'idle-in-transaction', severity: 'warning' })
  t.match(finding!.found, /^1 session is idle in transaction: pid \d+ \(forgetful job, user postgres, 127\.0\.0\.1\) for \d+ s after SELECT, open/)
  t.notMatch(finding!.found, /secret/)
})

t.test('a PgBouncer with known flaws is named with the version that has them corrected', { skip: place === null && 'no PgBouncer' }, async (t) => {
  const pgbouncer = await startPgBouncer(t, postgres, { program: programs[0], settings: { admin_users: 'app' } })
  const connectionString = place!.pooled.replace(`:${place!.pgbouncer.port}/`, `:${pgbouncer.port}/`)
  const findings = await diagnose({ connectionString })
  t.match(findings, [{ id: 'pgbouncer-version', severity: 'error', change: { where: 'upgrade' } }])
  t.match(findings[0]!.found, `PgBouncer ${pgbouncer.version}`)
  t.equal(findings.length, 1)
  t.match(await diagnose({ connectionString, preparedStatements: true }), [{ id: 'prepared-statements', severity: 'error' }, { id: 'pgbouncer-version' }])
})

for (const fault of ['cancel', 'pipelining'] as const) {
  t.test(`a server in front of which ${fault} does not work`, async (t) => {
    const port = await startFaultyProxy(t, postgres, fault)
    const findings = await diagnose({ connectionString: direct.replace(`:${postgres.port}/`, `:${port}/`) })
    t.same(findings.map(({ id }) => id), [fault])
  })
}

t.test('a server that accepts and never answers is reported in bounded time', async (t) => {
  const { createServer } = await import('node:net')
  const server = createServer((socket) => { socket.on('error', () => {}) }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await waitFor(() => server.listening)
  const { port } = server.address() as { port: number }
  t.match(await diagnose({ connectionString: `postgres://app:s3cret@127.0.0.1:${port}/postgres` }), [{ id: 'connection', severity: 'error' }])
})
