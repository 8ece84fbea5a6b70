// What the dashboard and the alerts of examples/observability show: only metrics that exist.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const folder = join(import.meta.dirname, '../../../examples/observability')
const postgres = await startTestPostgres(t)
const alerts = readFileSync(join(folder, 'alerts.yml'), 'utf8')
const dashboard = JSON.parse(readFileSync(join(folder, 'grafana-dashboard.json'), 'utf8'))

/** Of pgbouncer_exporter, https://github.com/prometheus-community/pgbouncer_exporter. */
const ofPgBouncer = [
  'pgbouncer_pools_client_active_connections', 'pgbouncer_pools_client_waiting_connections',
  'pgbouncer_pools_client_maxwait_seconds', 'pgbouncer_pools_server_active_connections',
  'pgbouncer_pools_server_idle_connections'
]

function metricsIn (text: string): string[] {
  return [...new Set(text.match(/\b(?:pg_scope|pgbouncer)_[a-z_]+\b/g))]
}

t.test('a scrape of the app has every metric that the dashboard and the alerts name', async (t) => {
  const { buildApp } = await import(join(folder, 'src/app.js'))
  const app = await buildApp({ connectionString: postgres.connectionString })
  t.teardown(() => app.close())
  t.equal((await app.inject('/time')).statusCode, 200)
  await waitFor(() => app.db.stats().inUse === 0)
  const { body, headers } = await app.inject('/metrics')
  t.match(headers['content-type'], /^text\/plain/)
  const names = metricsIn(alerts + JSON.stringify(dashboard))
  t.ok(names.length > 25)
  const found = (name: string): boolean => new RegExp(`^${name}(?:\\{.*\\})? `, 'm').test(body)
  t.same(names.filter((name) => name.startsWith('pg_scope_') && !found(name)), [])
  t.same(names.filter((name) => name.startsWith('pgbouncer_') && !ofPgBouncer.includes(name)), [])
  t.match(body, /^pg_scope_unknown_outcomes_total\{engine="db"\} 0$/m, 'a counter begins with 0')
})

t.test('there is an alert for each thing that goes wrong with connections', async (t) => {
  const expressions = alerts.split('- alert: ').slice(1)
  t.same(expressions.map((alert) => /^\w+/.exec(alert)![0]), [
    'PgScopeIdleTransaction', 'PgScopeConnectionsOnlyRise', 'PgScopeWaiting', 'PgScopeRefused', 'PgScopePoolDeadlock',
    'PgScopeLeak', 'PgScopeUnknownOutcome', 'PgBouncerClientsWait'
  ])
  for (const alert of expressions) {
    t.match(alert, /^ +expr: /m)
    t.match(alert, /^ +severity: (?:warning|critical)$/m)
    t.match(alert, /^ +summary: /m)
  }
  for (const { title, targets } of dashboard.panels) t.ok(targets.length > 0, title)
})
