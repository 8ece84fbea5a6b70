// What a library asks for when it begins a transaction, and how a session grants it.
import type { IsolationLevel } from '../types/options.ts'
import { pgScopeError } from './errors.ts'

export interface TransactionModes {
  isolation?: IsolationLevel | undefined
  readOnly?: boolean | undefined
  deferrable?: boolean | undefined
}

/** What sets the modes of a transaction inside the session's, before and after its SAVEPOINT. */
export interface ModeTexts {
  readonly before: string | null
  readonly inside: string | null
  /** The server refuses `inside` unless the transaction of the session has these modes already. */
  readonly isLate: boolean
}

export const isolationLevels: readonly IsolationLevel[] = [
  'read uncommitted', 'read committed', 'repeatable read', 'serializable'
]

/** SQLSTATE of SET TRANSACTION after the first statement. */
const activeTransaction = '25001'

/**
 * SET TRANSACTION for a transaction inside the session's
 * (https://www.postgresql.org/docs/current/sql-set-transaction.html). Isolation and DEFERRABLE must be set before the
 * session's first statement, for all of its transaction; later the server accepts the level that the transaction has.
 * READ ONLY may be set inside a savepoint, and ends with it.
 *
 * @param known what the session's transactions begin with
 * @param isUnused the session has no transaction and no savepoint yet
 */
export function modeTexts (modes: TransactionModes, known: TransactionModes, isUnused: boolean): ModeTexts {
  const { isolation, readOnly, deferrable } = newModes(checkedModes(modes), known)
  if (!isUnused) {
    const isLate = isolation !== undefined || deferrable !== undefined
    return { before: null, inside: setTransaction({ isolation, readOnly, deferrable }), isLate }
  }
  // Without READ ONLY, or after a query, DEFERRABLE has no effect. Back to READ WRITE needs an unused transaction.
  const goesFirst = deferrable === true || readOnly === false
  return {
    before: setTransaction({ isolation, deferrable, readOnly: goesFirst ? readOnly : undefined }),
    inside: goesFirst ? null : setTransaction({ readOnly }),
    isLate: false
  }
}

/** Those that a transaction of the session does not have yet. */
function newModes ({ isolation, readOnly, deferrable }: TransactionModes, known: TransactionModes): TransactionModes {
  return {
    isolation: isolation === known.isolation ? undefined : isolation,
    readOnly: readOnly === known.readOnly ? undefined : readOnly,
    deferrable: deferrable === (known.deferrable ?? false) ? undefined : deferrable
  }
}

export function setTransaction (modes: TransactionModes): string | null {
  const words = modeWords(modes)
  return words === '' ? null : `SET TRANSACTION ${words}`
}

function modeWords ({ isolation, readOnly, deferrable }: TransactionModes): string {
  return [
    isolation === undefined ? '' : `ISOLATION LEVEL ${isolation.toUpperCase()}`,
    readOnly === undefined ? '' : readOnly ? 'READ ONLY' : 'READ WRITE',
    deferrable === undefined ? '' : deferrable ? 'DEFERRABLE' : 'NOT DEFERRABLE'
  ].filter((word) => word !== '').join(', ')
}

/** @throws FST_PG_SCOPE_QUERY_INVALID for an isolation level that PostgreSQL does not have */
export function checkedModes (modes: TransactionModes): TransactionModes {
  if (modes.isolation !== undefined && !isolationLevels.includes(modes.isolation)) {
    throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'PostgreSQL does not have this isolation level: use ' +
      `${isolationLevels.join(', ')}.`)
  }
  return modes
}

/** The error of modes that were asked for too late, if the server has refused them for that. */
export function modesError (error: unknown, modes: TransactionModes): unknown {
  if ((error as { code?: unknown } | null)?.code !== activeTransaction) return error
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A nested transaction cannot be ${modeWords(modes)}: the ` +
    'transaction of the session has begun with other modes, and PostgreSQL changes them only before its first ' +
    'statement. Set `isolation`, `readOnly` and `deferrable` in the options of the route or of app.db.scope(), or ' +
    'begin this transaction first.', error)
}
