import type { AppFacts, Facts, PgBouncerFacts, ServerFacts } from '../../../lib/cli/doctor/facts.ts'

/** The plugin's defaults. */
export const app: AppFacts = {
  max: 10,
  min: 0,
  acquireTimeout: 5000,
  idleTimeout: 30_000,
  maxLifetime: 1_800_000,
  strategy: 'queue',
  pooler: 'auto',
  preparedStatements: null,
  statementTimeout: null,
  lockTimeout: null,
  idleInTransactionTimeout: 60_000,
  transactionTimeout: null,
  answerTimeout: null,
  keepAlive: true
}

export const server: ServerFacts = {
  version: 180004,
  maxConnections: 100,
  reserved: 3,
  roleLimit: null,
  databaseLimit: null,
  connections: { own: 0, others: 5 },
  timeouts: { statement_timeout: 0, idle_session_timeout: 0 },
  encrypted: false
}

/** What docs/pgbouncer.ini recommends. */
export const pgbouncer: PgBouncerFacts = {
  version: '1.26.1',
  config: {
    max_client_conn: '1000',
    max_prepared_statements: '200',
    query_wait_timeout: '10.000000',
    server_login_retry: '1',
    server_connect_timeout: '5',
    server_lifetime: '3600',
    server_idle_timeout: '600',
    client_idle_timeout: '0',
    query_timeout: '0',
    idle_transaction_timeout: '0',
    tcp_keepalive: '1',
    auth_type: 'scram-sha-256',
    ignore_startup_parameters: '',
    server_tls_sslmode: 'prefer'
  },
  mode: 'transaction',
  poolSize: 20,
  reserveSize: 0,
  connectionLimit: null,
  clientLimits: {},
  serverHost: '127.0.0.1',
  allPools: { count: 1, size: 20 },
  waiting: { clients: 0, longest: 0 }
}

const direct: Facts = {
  now: Date.parse('2026-06-01T12:00:00Z'),
  decorator: 'db',
  source: 'the test',
  bootFailure: null,
  target: { host: '127.0.0.1', port: 5432, database: 'shop', user: 'app' },
  app,
  connection: { failure: null, applicationName: { sent: 'shop:app@one', seen: 'shop:app@one' } },
  tls: { protocol: null, wanted: false, verified: true, nameChecked: true, channelBinding: false, expires: null, network: 'local' },
  pooler: { kind: 'none' },
  server,
  pgbouncer: null,
  activity: { idleInTransaction: [], preparedTransactions: { count: 0, oldest: 0 } },
  probes: { pipelining: 'works', cancel: 'works' },
  unread: []
}

/** A healthy app on a direct connection, with what a test changes. */
export function directFacts (changes: Partial<Facts> = {}): Facts {
  return { ...direct, ...changes }
}

/** A healthy app behind PgBouncer, with what a test changes of PgBouncer and otherwise. */
export function pooledFacts (changes: Partial<PgBouncerFacts> = {}, others: Partial<Facts> = {}): Facts {
  const facts = { ...pgbouncer, ...changes, config: { ...pgbouncer.config, ...changes.config } }
  return {
    ...direct,
    pgbouncer: facts,
    pooler: {
      kind: 'pgbouncer',
      version: facts.version,
      mode: facts.mode,
      maxPreparedStatements: Number(facts.config.max_prepared_statements),
      announced: true
    },
    ...others
  }
}
