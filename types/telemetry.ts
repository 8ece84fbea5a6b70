import type { Engine } from './engine.ts'
import type { SessionState } from './session.ts'

/** The engine that an event belongs to. */
export interface EngineIdentity {
  /** `app.db`, or `app.<decorator>` of a second registration. */
  readonly db: Engine
  readonly decorator: string
  /** Where its connections lead to: the server, or the pooler in front of it. */
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

/** The request that an event belongs to: the same object in all of its events. */
export interface RequestIdentity {
  /** Method and route, such as `GET /accounts/:id`, or `GET (no route)`. */
  readonly route: string
  /** The id that Fastify gave it, which is `reqId` in its log. */
  readonly id: string
}

/** The session that an event belongs to: the same object in all of its events. */
export interface SessionIdentity {
  /** Its state now. */
  readonly state: SessionState
}

/** What all events have in common. A subscriber may keep an event, which is not changed after `asyncEnd`. */
export interface TelemetryEvent {
  readonly engine: EngineIdentity
  /** Undefined outside of requests: in scope(fn), app.db.session(), app.db.query() and lease(fn). */
  readonly request: RequestIdentity | undefined
  /** That of the request. */
  readonly route: string | undefined
  /** performance.now() at the start. */
  readonly startTime: number
  /** Milliseconds; set before `asyncStart`. */
  duration?: number
  /** What the operation failed with; set before `error`. */
  error?: unknown
}

/**
 * `fastify-pg-scope:statement`: from the call of query(), or the DECLARE or FETCH of a stream, to its result. BEGIN,
 * COMMIT and SAVEPOINT are parts of `fastify-pg-scope:transaction`.
 */
export interface StatementEvent extends TelemetryEvent {
  /** The text as the caller wrote it; for a stream its query. Values of parameters are nowhere in an event. */
  readonly text: string
  /** Undefined for a statement that commits by itself. */
  readonly session: SessionIdentity | undefined
  /** The name that the caller gave the statement, which prepares it. */
  readonly name: string | undefined
  /** `declare` and `fetch`: a stream opens its cursor, and reads a batch of rows. */
  readonly kind: 'query' | 'declare' | 'fetch'
  /** `autocommit`: it is a transaction by itself. */
  readonly mode: 'transaction' | 'autocommit'
  /** How often it was sent: more than 1 after a connection was found dead; 0 if it never was. */
  attempts: number
  /** How many statements of callers were sent with it in one round trip, itself included; 0 if it was never sent. */
  batchSize: number
  /** The connection had prepared it already, or prepared it by this. */
  prepared: boolean
  /** Milliseconds until it was first sent: for a connection, or for its turn. */
  waitTime?: number
  /** The command of the answer: `SELECT`, `INSERT`, … Of several statements the last one. */
  command?: string
  /** Rows that it returned or changed; null for commands that have no rows. */
  rowCount?: number | null
}

/** `fastify-pg-scope:transaction`: from the first statement to the answer of COMMIT or ROLLBACK. */
export interface TransactionEvent extends TelemetryEvent {
  readonly session: SessionIdentity
  /** `savepoint`: of transaction(fn) inside a transaction, or of savepoint(). */
  readonly kind: 'transaction' | 'savepoint'
  /** How it begins: `BEGIN ISOLATION LEVEL SERIALIZABLE`; the name of a savepoint. */
  readonly name: string
  readonly readOnly: boolean
  /** Statements of callers that have succeeded, and the rows that they returned or changed; of savepoints 0. */
  statements: number
  rows: number
  /** Milliseconds until it had a connection; undefined if it never had one, and for savepoints. */
  waitTime?: number
  /**
   * Set before `asyncStart`. `unknown`: the connection was lost during COMMIT, or a statement ended the transaction by
   * itself. A savepoint that is released is `committed` with its transaction only.
   */
  outcome?: 'committed' | 'rolledBack' | 'released' | 'unknown'
}

/** `fastify-pg-scope:acquire`: from the request for a connection to its grant. */
export interface AcquireEvent extends TelemetryEvent {
  /** For lease(fn), which gets a pg client. */
  readonly raw: boolean
  /** Set before `asyncStart`. `abandoned`: what asked for it ended before. */
  outcome?: 'granted' | 'refused' | 'abandoned'
  /** `handedOver`: the COMMIT of the session before was not answered yet. Undefined unless granted. */
  connection?: 'new' | 'reused' | 'handedOver'
}

/** `fastify-pg-scope:lease`: the use of a connection, from its grant to its return. */
export type LeaseEvent = TelemetryEvent

/** `fastify-pg-scope:connect`: from the start of a connection to the end of its login. */
export type ConnectEvent = TelemetryEvent

/** `fastify-pg-scope:settle`: the end of a session: of a request, of scope(fn), of app.db.session(). */
export interface SettleEvent extends TelemetryEvent {
  /** What was to be done when the end began. */
  readonly wanted: 'commit' | 'rollback'
  /** Set before `asyncStart`. `unknown`: the connection was lost during COMMIT. */
  outcome?: 'committed' | 'rolledBack' | 'unknown'
}
