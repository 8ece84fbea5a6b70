import { inWords } from '../duration.ts'
import type { AppFacts, PgBouncerFacts, PoolerFacts, Probe } from '../facts.ts'
import { type Check, type Finding, inOptions, inPgBouncer, onHost } from '../finding.ts'
import { isOlder } from '../versions.ts'

/** How many texts a connection prepares automatically by default. */
const automatic = 100

/** What stands in between, and whether the app knows. */
export const checkPooler: Check = ({ app, pooler, pgbouncer, probes }) => {
  const findings: Finding[] = []
  if (app.pooler !== 'auto' && pooler.kind !== 'unreached') findings.push(...checkSetByHand(app, pooler))
  if (pooler.kind === 'none' && app.strategy === 'null') {
    findings.push({
      id: 'null-strategy',
      severity: 'note',
      found: 'pool.strategy is \'null\' on a direct connection',
      why: 'Each session pays for a connection, a login and a new backend. The strategy is made for a pooler in ' +
        'session mode',
      change: inOptions('pool: { strategy: \'queue\' }')
    })
  }
  if (pooler.kind === 'pgbouncer') findings.push(...checkMode(app, pooler), ...checkPrepared(app, pooler))
  if (pgbouncer !== null) findings.push(...checkSettings(pgbouncer))
  if (app.pooler === 'auto' && (pooler.kind === 'unknown' || pooler.kind === 'other')) {
    const name = pooler.kind === 'other' ? pooler.name : 'a pooler'
    findings.push({
      id: 'pooler',
      severity: 'note',
      found: `${name} stands between the app and PostgreSQL, and does not say what it is and how it works`,
      why: 'The plugin is careful then, and sends one batch at a time. The pooler\'s limits are not checked here',
      change: inOptions('pooler: \'transaction\' or \'session\'; for PgBouncer add `--admin postgres://…` to this ' +
        'command')
    })
  }
  return [...findings, ...checkProbes(probes)]
}

function checkSetByHand (app: AppFacts, pooler: PoolerFacts): Finding[] {
  const change = inOptions('pooler: \'auto\'')
  const found = `pooler is '${app.pooler}', and ${nameOf(pooler)}`
  const why = '\'auto\' works with and without a pooler'
  if (app.pooler === 'none' && pooler.kind !== 'none') {
    return [{
      id: 'pooler-option',
      severity: 'error',
      found,
      why: 'Timeouts travel in the startup packet, where PgBouncer refuses or ignores them, and what a session ' +
        'leaves behind (SET, LISTEN, locks) reaches other clients',
      change
    }]
  }
  if (pooler.kind === 'none') {
    return app.pooler === 'none' ? [] : [{ id: 'pooler-option', severity: 'note', found, why, change }]
  }
  if (pooler.kind !== 'pgbouncer' || pooler.mode === null || pooler.mode === app.pooler) return []
  return [{
    id: 'pooler-option',
    severity: app.pooler === 'session' ? 'error' : 'note',
    found,
    why: app.pooler === 'session'
      ? 'The plugin refuses nothing then: SET, LISTEN, temporary tables and session locks leak to other clients'
      : 'The plugin refuses statements that would work in session mode',
    change: app.pooler === 'session' ? change : inOptions('pooler: \'session\'')
  }]
}

function nameOf (pooler: PoolerFacts): string {
  if (pooler.kind === 'none') return 'the connection is direct'
  if (pooler.kind === 'pgbouncer') return `PgBouncer is there${pooler.mode === null ? '' : ` in ${pooler.mode} mode`}`
  return pooler.kind === 'other' ? `${pooler.name} is there` : 'a pooler is there'
}

function checkMode (app: AppFacts, { mode }: { mode: string | null }): Finding[] {
  if (mode === 'statement') {
    return [{
      id: 'pool-mode',
      severity: 'error',
      found: 'pool_mode is statement',
      why: 'PgBouncer refuses transactions then, and the plugin\'s sessions are transactions',
      change: inPgBouncer('pool_mode = transaction')
    }]
  }
  if (mode !== 'session' || app.strategy === 'null') return []
  return [{
    id: 'pool-mode',
    severity: 'warning',
    found: `pool_mode is session, and the pool keeps idle connections for ${inWords(app.idleTimeout)}`,
    why: 'Each kept connection holds a server connection all the time, so that PgBouncer shares nothing',
    change: inPgBouncer('pool_mode = transaction, or pool: { strategy: \'null\' } in the plugin\'s options')
  }]
}

function checkPrepared (app: AppFacts, pooler: Extract<PoolerFacts, { kind: 'pgbouncer' }>): Finding[] {
  const { version, mode, maxPreparedStatements: most, announced } = pooler
  if (mode !== 'transaction' || most === null) return []
  const { preparedStatements } = app
  const old = version !== null && isOlder(version, '1.21')
  const newer = old ? 'PgBouncer 1.21 or later, with max_prepared_statements = 200' : 'max_prepared_statements = 200'
  if (preparedStatements === true && most === 0) {
    return [{
      id: 'prepared-statements',
      severity: 'error',
      found: 'preparedStatements is true, and this PgBouncer does not follow prepared statements',
      why: 'A statement that is prepared on one server connection is used on another: 42P05 and 26000 at random',
      change: inOptions(`preparedStatements: leave it out, or ${newer}`)
    }]
  }
  if (preparedStatements === false) return []
  if (most === 0) {
    // An old version is a finding by itself, whose upgrade includes this.
    return old
      ? []
      : [{
          id: 'prepared-statements',
          severity: 'warning',
          found: 'max_prepared_statements is 0',
          why: 'Each statement is parsed and planned anew, which is most of what a short statement costs the server',
          change: inPgBouncer('max_prepared_statements = 200')
        }]
  }
  const own = typeof preparedStatements === 'number' ? preparedStatements : automatic
  if (own > most) {
    return [{
      id: 'prepared-statements',
      severity: 'warning',
      found: `each connection prepares up to ${own} statements, and max_prepared_statements is ${most}`,
      why: 'PgBouncer drops and prepares statements again all the time, on each server connection',
      change: inPgBouncer(`max_prepared_statements = ${Math.max(200, own * 2)}`)
    }]
  }
  if (announced || preparedStatements === true) return []
  return [{
    id: 'prepared-statements',
    severity: 'note',
    found: `PgBouncer ${version ?? ''} follows prepared statements (max_prepared_statements ${most}), and cannot tell`,
    why: 'Only 1.26 and later tell, so that the plugin prepares nothing',
    change: inOptions('preparedStatements: true')
  }]
}

/** Startup parameters that lose their meaning without a message. */
const meaningful = [
  'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', 'options',
  'search_path'
]

function checkSettings ({ config, mode }: PgBouncerFacts): Finding[] {
  const findings: Finding[] = []
  const ignored = (config.ignore_startup_parameters ?? '').split(',').map((name) => name.trim())
  const lost = ignored.filter((name) => meaningful.includes(name))
  if (lost.length > 0) {
    const rest = ignored.filter((name) => name !== '' && !meaningful.includes(name))
    findings.push({
      id: 'ignore-startup-parameters',
      severity: 'warning',
      found: `ignore_startup_parameters has ${lost.join(', ')}`,
      why: 'A client that asks for such a limit connects and does not get it, without any message. The plugin sends ' +
        'none of them',
      change: inPgBouncer(`ignore_startup_parameters = ${rest.join(', ')}`.trimEnd())
    })
  }
  if (config.server_reset_query_always === '1' && mode !== 'session') {
    findings.push({
      id: 'server-reset-query-always',
      severity: 'warning',
      found: 'server_reset_query_always is 1',
      why: 'PgBouncer resets the server connection after each transaction: a round trip, and nothing stays prepared',
      change: inPgBouncer('server_reset_query_always = 0')
    })
  }
  if (config.tcp_keepalive === '0') {
    findings.push({
      id: 'tcp-keepalive',
      severity: 'warning',
      found: 'tcp_keepalive is 0',
      why: 'A client or server that vanishes without a word holds its connection and its transaction for ever',
      change: inPgBouncer('tcp_keepalive = 1, with tcp_keepidle = 30')
    })
  }
  return findings
}

function checkProbes ({ pipelining, cancel }: { pipelining: Probe, cancel: Probe }): Finding[] {
  const findings: Finding[] = []
  if (pipelining === 'fails' || pipelining === 'no answer') {
    findings.push({
      id: 'pipelining',
      severity: 'error',
      found: pipelining === 'fails'
        ? 'statements that were sent without waiting for each other failed or got the wrong answers'
        : 'statements that were sent without waiting for each other got no answers',
      why: 'The plugin sends statements together wherever it can: requests would hang or read answers of others',
      change: onHost('another pooler, or a newer version of this one; until then answerTimeout: 10000 in the ' +
        'plugin\'s options, so that a request fails and does not hang')
    })
  }
  if (cancel === 'fails' || cancel === 'no answer') {
    findings.push({
      id: 'cancel',
      severity: 'warning',
      found: 'a CancelRequest had no effect on a running statement',
      why: 'When a client hangs up or a request times out, its statement runs on until it ends, and holds a connection',
      change: inOptions('statementTimeout: 10000. Then let CancelRequests pass on the way to the server: each has a ' +
        'connection of its own')
    })
  }
  return findings
}
