import { createHash } from 'node:crypto'

// One page without external files. The script writes texts alone, so that nothing it shows can become markup.

const style = `
:root { color-scheme: light dark; --line: #d0d7de; --soft: #59636e; --bad: #c62828; --card: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #9198a1; --bad: #ff7b72; --card: #151b23 } }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem }
h1 { font-size: 1.2rem } h2 { font-size: 1rem; margin: 1.5rem 0 .4rem } small, .none { color: var(--soft) }
dl { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem }
dt { color: var(--soft); font-size: .8rem } dd { font-size: 1.2rem; margin: 0; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top }
th { color: var(--soft); font-weight: 500 } td { font-variant-numeric: tabular-nums }
.bad { color: var(--bad); font-weight: 600 } code { font: .85em ui-monospace, monospace; word-break: break-word }
`

const script = `
'use strict'
const $ = (id) => document.getElementById(id)
const element = (name, text, className) => {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  return made
}
const time = (ms) => ms === null ? '' : ms < 1000 ? ms + ' ms' : (ms / 1000).toFixed(1) + ' s'
function figures (stats) {
  const { counters } = stats
  const all = [['in use', stats.inUse + ' / ' + stats.max, stats.inUse >= stats.max], ['idle', stats.idle],
    ['open', stats.open], ['waiting', stats.waiting, stats.waiting > 0],
    ['oldest transaction', time(stats.oldestTransaction), stats.oldestTransaction > 10000],
    ['committed', counters.committed], ['rolled back', counters.rolledBack], ['timed out', counters.timedOut,
      counters.timedOut > 0], ['refused', counters.refused, counters.refused > 0],
    ['deadlocks', counters.deadlocks, counters.deadlocks > 0], ['leaks', counters.leaks, counters.leaks > 0]]
  $('pool').replaceChildren(...all.map(([name, value, bad]) => {
    const box = element('div')
    box.append(element('dt', name), element('dd', String(value), bad ? 'bad' : ''))
    return box
  }))
}
function table (id, rows, columns) {
  if (rows.length === 0) return $(id).replaceChildren(element('p', 'none', 'none'))
  const made = element('table')
  const head = made.createTHead().insertRow()
  for (const [name] of columns) head.append(element('th', name))
  const body = made.createTBody()
  for (const row of rows) {
    const line = body.insertRow()
    for (const [, value, kind] of columns) {
      const text = value(row)
      const cell = element('td')
      cell.append(element(kind === 'code' ? 'code' : 'span', text === null ? '' : String(text),
        kind === 'state' && /idle in|failed/.test(text) ? 'bad' : ''))
      line.append(cell)
    }
  }
  $(id).replaceChildren(made)
}
const who = [['route', (row) => row.route ?? '(no request)'], ['request', (row) => row.request]]
function show (state) {
  const { engine, pooler, stats } = state
  const server = engine.host ? ': ' + engine.user + '@' + engine.host + ':' + engine.port + '/' + engine.database : ''
  $('engine').textContent = [engine.decorator + server, 'PostgreSQL ' + (stats.serverVersion ?? '?'),
    'pooler ' + pooler.kind, state.time].join(', ')
  figures(stats)
  table('sessions', state.sessions, [...who, ['state', (row) => row.state, 'state'], ['age', (row) => time(row.age)],
    ['statements', (row) => row.statements], ['last statement', (row) => row.statement, 'code'],
    ['called', (row) => row.statementAge === null ? '' : time(row.statementAge) + ' ago']])
  table('waits', state.waits, [...who, ['waits for', (row) => time(row.age)]])
  table('held', state.held, [...who, ['held for', (row) => time(row.age)]])
  table('failures', state.failures, [['time', (row) => row.time], ...who, ['what', (row) => row.what],
    ['code', (row) => row.code], ['statement', (row) => row.statement, 'code']])
  $('pgbouncer-part').hidden = state.pgbouncer === null
  if (state.pgbouncer === null) return
  const rows = state.pgbouncer.rows ?? []
  if (state.pgbouncer.error) $('pgbouncer').replaceChildren(element('p', state.pgbouncer.error, 'bad'))
  else table('pgbouncer', rows, Object.keys(rows[0] ?? {}).map((name) => [name, (row) => row[name]]))
}
const address = location.pathname.replace(/\\/?$/, '/state')
async function poll () {
  try {
    const answer = await fetch(address, { cache: 'no-store' })
    if (!answer.ok) throw new Error('status ' + answer.status)
    show(await answer.json())
    $('problem').textContent = ''
  } catch (error) {
    $('problem').textContent = 'No answer from the app: ' + error.message
  }
  setTimeout(poll, document.hidden ? 5000 : 1000)
}
poll()
`

export const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastify-pg-scope</title><style>${style}</style></head><body>
<h1>fastify-pg-scope</h1><p><small id="engine"></small> <span id="problem" class="bad" role="status"></span></p>
<dl id="pool"></dl>
<h2>Sessions in flight</h2><div id="sessions" class="wide"></div>
<h2>Waiting for a connection</h2><div id="waits" class="wide"></div>
<h2>Connections held for long</h2><div id="held" class="wide"></div>
<h2>Recent failures</h2><div id="failures" class="wide"></div>
<div id="pgbouncer-part" hidden><h2>PgBouncer: SHOW POOLS</h2><div id="pgbouncer" class="wide"></div></div>
<script>${script}</script></body></html>
`

const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

/** Only this script and this style, and requests to the app alone. */
export const contentSecurityPolicy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; ` +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
