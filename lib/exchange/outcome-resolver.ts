import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { isPgScopeError, pgScopeError } from '../errors.ts'
import { Call } from './call.ts'
import { SingleStatement } from './single-statement.ts'
import { mergeSettings, TransactionConfig } from './transaction-config.ts'
import { connectionLost, unknownOutcome } from './transaction-errors.ts'
import type { TransactionHost } from './transaction-host.ts'
import type { Identity, TransactionIdentity } from './transaction-identity.ts'

/** The delay before the same question is asked again. Milliseconds. */
const interval = 50

/**
 * The state of a transaction, on the server that it ran on or on the standby that was promoted next.
 *
 * A server that has crashed since may have given the id to another transaction; after a crash its statistics begin
 * anew. A standby has given it to no other one if its recovery has reached a position behind the first record of the
 * transaction; if it has not, COMMIT, which was written later, is not in its log. pg_last_wal_replay_lsn() is where the
 * recovery ended (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL): that of the
 * promotion, not of a crash since, as long as the server knows what it has received as a standby.
 */
const question = `SELECT s.system_identifier::text, t.timeline,
CASE WHEN s.system_identifier::text = $2 AND (t.timeline = $3 OR t.has_reached)
THEN pg_catalog.pg_xact_status($1::text::pg_catalog.xid8) END,
$4::timestamptz < pg_catalog.pg_postmaster_start_time() OR
$4::timestamptz < pg_catalog.pg_stat_get_bgwriter_stat_reset_time(), t.has_reached
FROM pg_catalog.pg_control_system() AS s,
(SELECT t.timeline, CASE WHEN t.timeline = $5 AND pg_catalog.pg_last_wal_receive_lsn() IS NOT NULL
THEN pg_catalog.pg_last_wal_replay_lsn() >= $6::pg_catalog.pg_lsn END AS has_reached
FROM (SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline) AS t
) AS t`

/** `again`: not decided yet. A text: why it cannot be found out. */
type Verdict = 'committed' | 'aborted' | 'again' | { readonly unknown: string }

/** What is known of a transaction, for logs. */
interface Found {
  readonly transaction: string
  readonly system: string
  readonly timeline: string | null
  /** How long it took to find out, in milliseconds. */
  readonly duration: number
}

/** What one connection says: texts of PostgreSQL, null for NULL. */
type Answer = [
  system: string, timeline: string | null, status: string | null, hasRestarted: string, hasReached: string | null
]

/** Finds out on another connection whether a transaction was committed whose COMMIT was never answered. */
export class OutcomeResolver {
  readonly #host: TransactionHost
  readonly #timeout: number
  readonly #log: FastifyBaseLogger
  readonly #config: TransactionConfig

  /**
   * @param timeout how long it may take, in milliseconds
   * @param log gets a line for each outcome that was found out
   */
  constructor (host: TransactionHost, timeout: number, log: FastifyBaseLogger) {
    this.#host = host
    this.#timeout = timeout
    this.#log = log
    this.#config = new TransactionConfig({ answerTimeout: timeout }, mergeSettings())
  }

  /**
   * @param lost why COMMIT was not answered
   * @returns null if the transaction is committed, otherwise the error for its session
   */
  async resolve ({ known, isAsking }: TransactionIdentity, lost: unknown): Promise<Error | null> {
    if (known === null || (known.id === null && isAsking)) return unknownOutcome(lost)
    if (known.id === null) {
      // It has written nothing. Under SERIALIZABLE, COMMIT may fail all the same, and what it has read is worthless.
      return known.isolation === 'serializable' ? connectionLost(lost) : null
    }
    const began = performance.now()
    const verdict = await this.#ask(known)
    const found: Found = {
      transaction: known.id,
      system: known.system,
      timeline: known.timeline,
      duration: Math.round(performance.now() - began)
    }
    if (typeof verdict === 'object') return undecided(found, verdict.unknown, lost)
    this.#log.warn({ ...found, outcome: verdict }, 'COMMIT was not answered, and its outcome was found out')
    return verdict === 'committed' ? null : connectionLost(lost)
  }

  async #ask (identity: Identity): Promise<Exclude<Verdict, 'again'>> {
    const deadline = performance.now() + this.#timeout
    let last = ''
    for (;;) {
      const verdict = await this.#askOnce(identity, deadline - performance.now()).catch((error) => {
        last = ` (${isPgScopeError(error) ? error.code : (error as Error).message})`
        return refusalOf(error)
      })
      if (verdict !== 'again') return verdict
      if (performance.now() + interval > deadline) {
        return { unknown: `no connection could tell within ${this.#timeout} ms (\`pool.acquireTimeout\`)${last}` }
      }
      await sleep(interval)
    }
  }

  async #askOnce (identity: Identity, timeLeft: number): Promise<Verdict> {
    const { id, system, timeline, time, position } = identity
    const types = { getTypeParser: () => text }
    const values = [id, system, timeline, time, timeline === null ? null : nextTimeline(timeline), position]
    const call = new Call(question, values, { rowMode: 'array', types })
    const single = new SingleStatement(this.#host, call, this.#config, undefined, () => {})
    const timer = setTimeout(() => single.cancel(pgScopeError('FST_PG_SCOPE_CANCELED',
      'The question for the outcome of a transaction took too long.')), Math.max(1, timeLeft))
    try {
      single.start(undefined)
      const { rows } = await call.promise
      return verdictOf(identity, rows[0] as unknown as Answer)
    } finally {
      clearTimeout(timer)
    }
  }
}

function text (value: string | Buffer): string {
  return String(value)
}

/** A timeline as it stands in the names of WAL files. */
function nextTimeline (timeline: string): string {
  return (parseInt(timeline, 16) + 1).toString(16).toUpperCase().padStart(timeline.length, '0')
}

function verdictOf (identity: Identity, [system, timeline, status, hasRestarted, hasReached]: Answer): Verdict {
  // A standby that is perhaps being promoted.
  if (timeline === null) return 'again'
  const isSame = timeline === identity.timeline
  if (system !== identity.system || (!isSame && hasReached === null)) {
    return { unknown: `another server has answered: system ${system}, timeline ${timeline}` }
  }
  // The failover came before COMMIT.
  if (hasReached === 'f') return 'aborted'
  if (status === null) return { unknown: 'the server has forgotten the transaction, which is too old' }
  if (!isSame || hasRestarted === 'f') return status === 'committed' || status === 'aborted' ? status : 'again'
  // The id may belong to another transaction now: then this one has not survived.
  return status === 'committed'
    ? { unknown: 'the server has restarted since, and may have given the id of the transaction to another one' }
    : 'aborted'
}

/** What an error says about the transaction. */
function refusalOf (error: unknown): Verdict {
  // "transaction ID is in the future": the same server has forgotten it in a crash.
  if ((error as { code?: unknown }).code === '22023') return 'aborted'
  if (isPgScopeError(error) && error.code === 'FST_PG_SCOPE_CLOSED') return { unknown: error.details }
  return 'again'
}

function undecided ({ transaction, system, timeline }: Found, why: string, lost: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_COMMIT_UNKNOWN', 'The connection was lost during COMMIT: the work may or may not ' +
    `have been saved. It could not be found out, because ${why}. Check before you try again: it is transaction ` +
    `${transaction} of system ${system}, timeline ${timeline}.`, lost)
}
