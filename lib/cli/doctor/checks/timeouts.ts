import { inWords } from '../duration.ts'
import type { AppFacts, PgBouncerFacts, ServerFacts } from '../facts.ts'
import { type Check, type Finding, inOptions, inPgBouncer, inServer } from '../finding.ts'

/** Limits of time on both sides that contradict each other. */
export const checkTimeouts: Check = ({ app, pgbouncer, server, pooler }) => [
  ...checkApp(app),
  ...(server === null ? [] : checkServer(app, server, pooler.kind === 'none')),
  ...(pgbouncer === null ? [] : checkPgBouncer(app, pgbouncer))
]

function checkApp (app: AppFacts): Finding[] {
  const { statementTimeout, lockTimeout, transactionTimeout, answerTimeout, idleInTransactionTimeout } = app
  const findings: Finding[] = []
  if (idleInTransactionTimeout === 0) {
    findings.push({
      id: 'idle-in-transaction-timeout',
      severity: 'warning',
      found: 'idleInTransactionTimeout is 0, which turns the limit off, the server\'s too',
      why: 'A handler that never ends keeps its transaction open: its locks stay, and VACUUM cannot remove dead rows',
      change: inOptions('idleInTransactionTimeout: 60000')
    })
  }
  if (isLonger(statementTimeout, answerTimeout)) {
    findings.push({
      id: 'answer-timeout',
      severity: 'warning',
      found: `answerTimeout ${inWords(answerTimeout!)} is not longer than statementTimeout ` +
        inWords(statementTimeout!),
      why: 'A connection counts as lost before the server can end a slow statement, so that a COMMIT may have an ' +
        'unknown outcome',
      change: inOptions(`answerTimeout: ${statementTimeout! + 10000}`)
    })
  }
  if (isLonger(statementTimeout, transactionTimeout)) {
    findings.push({
      id: 'transaction-timeout',
      severity: 'note',
      found: `transactionTimeout ${inWords(transactionTimeout!)} is not longer than statementTimeout ` +
        inWords(statementTimeout!),
      why: 'statementTimeout has no effect: a statement ends its transaction, and the connection, first',
      change: inOptions(`statementTimeout: ${Math.floor(transactionTimeout! / 2)}`)
    })
  }
  if (isLonger(lockTimeout, statementTimeout)) {
    findings.push({
      id: 'lock-timeout',
      severity: 'note',
      found: `lockTimeout ${inWords(lockTimeout!)} is not shorter than statementTimeout ${inWords(statementTimeout!)}`,
      why: 'lockTimeout has no effect: statementTimeout ends the statement first',
      change: inOptions(`lockTimeout: ${Math.floor(statementTimeout! / 2)}`)
    })
  }
  if (app.maxLifetime === 0 && app.strategy === 'queue') {
    findings.push({
      id: 'max-lifetime',
      severity: 'note',
      found: 'pool.maxLifetime is 0: a connection is kept as long as it works',
      why: 'Its backend never gives back the memory that it has gathered, and it stays where it is after a DNS name ' +
        'leads elsewhere',
      change: inOptions('pool: { maxLifetime: 1800000 }')
    })
  }
  if (!app.keepAlive) {
    findings.push({
      id: 'keep-alive',
      severity: 'note',
      found: 'keepAlive is false',
      why: 'A host that vanishes is noticed by the next request only, and a firewall may forget an idle connection',
      change: inOptions('keepAlive: true')
    })
  }
  return findings
}

function checkServer (app: AppFacts, { timeouts }: ServerFacts, direct: boolean): Finding[] {
  const findings: Finding[] = []
  const { idle_session_timeout: idle = 0, statement_timeout: statement = 0 } = timeouts
  const keeps = app.strategy === 'queue' && (app.min > 0 || app.idleTimeout === 0 || app.idleTimeout >= idle)
  if (idle > 0 && (!direct || keeps)) {
    findings.push({
      id: 'idle-session-timeout',
      severity: 'warning',
      found: direct
        ? `idle_session_timeout ${inWords(idle)}, and the pool keeps idle connections ` +
          howLong(app)
        : `idle_session_timeout ${inWords(idle)} ends connections that PgBouncer keeps idle`,
      why: 'The server ends them, and the next sessions meet a dead connection and need another one. The setting ' +
        'is not made for pools',
      change: direct && app.min === 0 && idle > 10000
        ? inOptions(`pool: { idleTimeout: ${Math.floor(idle * 0.8)} }, or idle_session_timeout = 0 for the role`)
        : inServer('idle_session_timeout = 0')
    })
  }
  if (app.statementTimeout === null && isLonger(statement, app.answerTimeout)) {
    findings.push({
      id: 'answer-timeout',
      severity: 'warning',
      found: `answerTimeout ${inWords(app.answerTimeout!)} is not longer than the server's statement_timeout ` +
        inWords(statement),
      why: 'A connection counts as lost before the server can end a slow statement',
      change: inOptions(`answerTimeout: ${statement + 10000}`)
    })
  }
  return findings
}

function checkPgBouncer (app: AppFacts, { config, mode }: PgBouncerFacts): Finding[] {
  const time = (name: string): number => Math.round(Number(config[name] ?? 0) * 1000)
  const findings: Finding[] = []
  const clientIdle = time('client_idle_timeout')
  const keepsIdle = app.min > 0 || app.idleTimeout === 0 || app.idleTimeout >= clientIdle
  if (clientIdle > 0 && app.strategy === 'queue' && keepsIdle) {
    findings.push({
      id: 'client-idle-timeout',
      severity: 'warning',
      found: `client_idle_timeout ${inWords(clientIdle)}, and the pool keeps idle connections ` +
        howLong(app),
      why: 'PgBouncer ends connections that the pool keeps on purpose; the next sessions meet a dead one and reconnect',
      change: inPgBouncer('client_idle_timeout = 0')
    })
  }
  findings.push(...checkServerConnections(app, mode, {
    lifetime: time('server_lifetime'), idle: time('server_idle_timeout')
  }))
  const ends = [
    ['idle_transaction_timeout', 'idleInTransactionTimeout', app.idleInTransactionTimeout,
      'PgBouncer ends the client with 08P01, the code of every failure in between, instead of 25P03'],
    ['query_timeout', 'statementTimeout', app.statementTimeout,
      'PgBouncer ends the client, and the statement goes on running on the server'],
    ['transaction_timeout', 'transactionTimeout', app.transactionTimeout,
      'PgBouncer ends the client with 08P01, the code of every failure in between']
  ] as const
  for (const [name, option, own, why] of ends) {
    const limit = time(name)
    if (limit === 0) continue
    const first = own === null || own === 0 || own >= limit
    findings.push({
      id: name.replaceAll('_', '-'),
      severity: first ? 'warning' : 'note',
      found: `PgBouncer's ${name} ${inWords(limit)}, and ${option} is ${own === null ? 'not set' : inWords(own)}`,
      why,
      change: inPgBouncer(`${name} = 0, and ${option}: ${own || limit} in the plugin's options`)
    })
  }
  return [...findings, ...checkWaits(app, time)]
}

function checkServerConnections (
  app: AppFacts, mode: string, { lifetime, idle }: { lifetime: number, idle: number }
): Finding[] {
  const findings: Finding[] = []
  if (lifetime < 60000) {
    findings.push({
      id: 'server-lifetime',
      severity: 'warning',
      found: `server_lifetime ${inWords(lifetime)}`,
      why: lifetime === 0
        ? 'Each connection to PostgreSQL is used once: every transaction pays for a login'
        : 'PgBouncer replaces its connections to PostgreSQL all the time, and each one costs a login',
      change: inPgBouncer('server_lifetime = 3600')
    })
  } else if (app.strategy === 'queue' && (app.maxLifetime === 0 || app.maxLifetime > lifetime)) {
    const own = app.maxLifetime === 0 ? '0 (no limit)' : inWords(app.maxLifetime)
    findings.push({
      id: 'server-lifetime',
      severity: mode === 'session' ? 'warning' : 'note',
      found: `pool.maxLifetime ${own} is longer than server_lifetime ${inWords(lifetime)}`,
      why: mode === 'session'
        ? 'In session mode PgBouncer cannot replace a server connection as long as its client stays'
        : 'PgBouncer replaces its connections to PostgreSQL sooner than the pool replaces its own. Between two ' +
          'transactions no client notices',
      change: inPgBouncer(`server_lifetime = 3600, or pool: { maxLifetime: ${Math.floor(lifetime / 2)} } in the ` +
        'plugin\'s options')
    })
  }
  if (idle < 10000) {
    findings.push({
      id: 'server-idle-timeout',
      severity: idle === 0 ? 'note' : 'warning',
      found: `server_idle_timeout ${inWords(idle)}`,
      why: idle === 0
        ? 'What a peak has opened stays open for ever'
        : 'PgBouncer closes and opens its connections to PostgreSQL all the time, and each one costs a login',
      change: inPgBouncer('server_idle_timeout = 600')
    })
  }
  return findings
}

/** How long PgBouncer lets a client wait for a server connection. */
function checkWaits ({ acquireTimeout }: AppFacts, time: (name: string) => number): Finding[] {
  const wait = time('query_wait_timeout')
  const findings: Finding[] = []
  const change = inPgBouncer('query_wait_timeout = 10')
  if (wait === 0 || wait > 60000) {
    findings.push({
      id: 'query-wait-timeout',
      severity: 'warning',
      found: `query_wait_timeout ${wait === 0 ? '0 (no limit)' : inWords(wait)}, and pool.acquireTimeout ` +
        inWords(acquireTimeout),
      why: 'A session that waits in PgBouncer holds one of pool.max long after the others were refused, and after ' +
        'its client has given up',
      change
    })
  } else if (wait < acquireTimeout) {
    findings.push({
      id: 'query-wait-timeout',
      severity: wait < 3000 ? 'warning' : 'note',
      found: `query_wait_timeout ${inWords(wait)} is shorter than pool.acquireTimeout ${inWords(acquireTimeout)}`,
      why: 'PgBouncer disconnects a client that waits for a server connection sooner than the app would give up, for ' +
        'example while PostgreSQL restarts',
      change
    })
  }
  const limit = wait === 0 ? Infinity : wait
  const connect = time('server_connect_timeout')
  const retry = time('server_login_retry')
  if (connect >= limit) {
    findings.push({
      id: 'server-connect-timeout',
      severity: 'note',
      found: `server_connect_timeout ${inWords(connect)} is not shorter than query_wait_timeout ${inWords(wait)}`,
      why: 'Clients are disconnected before PgBouncer gives up a server that does not answer and tries again',
      change: inPgBouncer(`server_connect_timeout = ${Math.max(1, Math.floor(wait / 2000))}`)
    })
  }
  if (retry > 5000) {
    findings.push({
      id: 'server-login-retry',
      severity: retry >= limit ? 'warning' : 'note',
      found: `server_login_retry ${inWords(retry)}`,
      why: 'After a failed login to PostgreSQL, new requests fail for this long, however short the restart was',
      change: inPgBouncer('server_login_retry = 1')
    })
  }
  return findings
}

/** How long the pool keeps an idle connection. */
function howLong ({ min, idleTimeout }: AppFacts): string {
  if (min > 0) return `(pool.min ${min})`
  return idleTimeout === 0 ? 'for ever' : `for ${inWords(idleTimeout)}`
}

/** Both are set, and the first one does not end before the second one. */
function isLonger (first: number | null, second: number | null): boolean {
  return first !== null && second !== null && first > 0 && second > 0 && first >= second
}
