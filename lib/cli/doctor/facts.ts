import type { Target } from '../../postgres/target.ts'

/**
 * What the doctor has found out about one engine, before anything is judged: numbers, names and settings. No password
 * and no value of a statement is in it. `null` means that something could not be read; `unread` says why.
 */
export interface Facts {
  /** When the facts were gathered, in milliseconds since 1970. */
  readonly now: number
  readonly decorator: string
  /** Where the options come from: 'the URL', 'the environment' or a file. */
  readonly source: string
  /** Why the app did not start, with `--app`. */
  readonly bootFailure: string | null
  readonly target: Target
  readonly app: AppFacts
  readonly connection: ConnectionFacts
  readonly tls: TlsFacts
  readonly pooler: PoolerFacts
  readonly server: ServerFacts | null
  readonly pgbouncer: PgBouncerFacts | null
  readonly activity: ActivityFacts | null
  readonly probes: ProbeFacts
  readonly unread: readonly Unread[]
}

/** The plugin's options with their defaults. Durations are in milliseconds; null means not set or no limit. */
export interface AppFacts {
  readonly max: number
  readonly min: number
  readonly acquireTimeout: number
  readonly idleTimeout: number
  readonly maxLifetime: number
  readonly strategy: 'queue' | 'null'
  readonly pooler: 'auto' | 'none' | 'session' | 'transaction'
  readonly preparedStatements: boolean | number | null
  readonly statementTimeout: number | null
  readonly lockTimeout: number | null
  readonly idleInTransactionTimeout: number | null
  readonly transactionTimeout: number | null
  readonly answerTimeout: number | null
  readonly keepAlive: boolean
}

export interface ConnectionFacts {
  /** Why no connection could be opened, or why it did not answer. */
  readonly failure: { readonly reason: string, readonly kind: 'refused' | 'full' | 'unreachable' } | null
  readonly applicationName: { readonly sent: string, readonly seen: string } | null
}

export interface TlsFacts {
  /** TLS on the connection of the app; null without a connection. */
  readonly protocol: string | null
  readonly wanted: boolean
  /** The certificate is checked against an authority, and the connection fails if it is not valid. */
  readonly verified: boolean
  readonly nameChecked: boolean
  readonly channelBinding: boolean
  /** When the certificate expires, in milliseconds since 1970. */
  readonly expires: number | null
  readonly network: 'local' | 'private' | 'public' | null
}

export type PoolerFacts =
  | { readonly kind: 'none' }
  | {
    readonly kind: 'pgbouncer'
    readonly version: string | null
    readonly mode: string | null
    /** Whether it follows prepared statements; null if that is not known. */
    readonly maxPreparedStatements: number | null
    /** It says by itself what it is, so that the plugin knows. */
    readonly announced: boolean
  }
  | { readonly kind: 'other', readonly name: string }
  | { readonly kind: 'unknown' }
  /** No connection was possible. */
  | { readonly kind: 'unreached' }

export interface ServerFacts {
  /** server_version_num: 170004 is 17.4. */
  readonly version: number
  readonly maxConnections: number
  /** superuser_reserved_connections and reserved_connections together. */
  readonly reserved: number
  /** CONNECTION LIMIT of the role and of the database; null: none. */
  readonly roleLimit: number | null
  readonly databaseLimit: number | null
  /** Client connections at the moment, those of this application_name apart. */
  readonly connections: { readonly own: number, readonly others: number }
  /** Timeouts as a new session has them. Milliseconds; 0: none. Absent where the server does not know the setting. */
  readonly timeouts: Readonly<Record<string, number>>
  /** The server's own leg: behind a pooler, the connection between the pooler and the server. */
  readonly encrypted: boolean | null
}

export interface PgBouncerFacts {
  readonly version: string
  /** SHOW CONFIG. */
  readonly config: Readonly<Record<string, string>>
  readonly mode: string
  readonly poolSize: number
  readonly reserveSize: number
  /** max_db_connections and max_user_connections as they apply here; null: no limit. */
  readonly connectionLimit: number | null
  /** Limits on clients that apply here besides max_client_conn; by the names of the settings. */
  readonly clientLimits: Readonly<Record<string, number>>
  /** The host of the server, as PgBouncer connects to it; null: a Unix domain socket. */
  readonly serverHost: string | null
  /** Sum of the sizes of all pools that exist at the moment. */
  readonly allPools: { readonly count: number, readonly size: number }
  readonly waiting: { readonly clients: number, readonly longest: number }
}

export interface IdleTransaction {
  readonly pid: number
  readonly user: string
  readonly applicationName: string
  /** null: a Unix domain socket. */
  readonly address: string | null
  /** Seconds since its last statement. */
  readonly idle: number
  /** Seconds since its transaction began. */
  readonly open: number
  /** The first word of its last statement. */
  readonly lastCommand: string | null
  readonly aborted: boolean
}

export interface ActivityFacts {
  /** Longest idle first. */
  readonly idleInTransaction: readonly IdleTransaction[]
  readonly preparedTransactions: { readonly count: number, readonly oldest: number }
}

export type Probe = 'works' | 'fails' | 'no answer' | 'not tried'

export interface ProbeFacts {
  readonly pipelining: Probe
  readonly cancel: Probe
}

/** Something that could not be read, so that nothing is said about it. */
export interface Unread {
  readonly what: string
  readonly why: string
  /** What to do to have it read. */
  readonly how: string
}
