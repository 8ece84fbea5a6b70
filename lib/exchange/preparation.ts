import type pg from 'pg'
import type { Connection } from '../pool/connection.ts'
import { isDuplicate, isMissing, isStalePlan, mayComeOfPreparing } from '../postgres/sqlstate.ts'
import type { PreparedStatement } from '../postgres/prepared-statements.ts'
import { becameStale } from './statement-text.ts'
import type { Statement } from './statement.ts'

/*
 * What the answers of a batch say about the prepared statements of its connection. The states of a PreparedStatement:
 * 'parsing' (Parse was sent) → 'ready' (executed) or 'unknown' (skipped or failed: whether it exists is uncertain).
 */

/** Tags of commands that remove one prepared statement or all of them. */
const deallocateTag = /^(?:DEALLOCATE|DISCARD ALL)/

/** A statement was executed. */
export function recordExecuted (connection: Connection, statement: Statement, tag: string): void {
  const { text, prepared, describes, suspectPlan } = statement
  if (suspectPlan !== null) recordStalePlan(connection, text, suspectPlan)
  if (prepared !== null) {
    // A statement that removes it may have been sent meanwhile: then its state stays as it is.
    if (prepared.state === 'parsing') prepared.state = 'ready'
    if (describes) prepared.fields ??= null
  }
  // Last, because the statement may be a prepared one that removed itself.
  if (deallocateTag.test(tag)) connection.prepared?.dropped()
}

/** The statements from index `start` on never ran. */
export function recordSkipped (statements: readonly Statement[], start: number): void {
  for (let i = start; i < statements.length; i++) {
    const { prepared } = statements[i]!
    if (prepared?.state === 'parsing') prepared.state = 'unknown'
  }
}

/**
 * Decides whether a statement failed only because it is prepared. A value of the wrong type may be the fault of the
 * client: only if the same statement then succeeds unprepared, its table is known to have been altered.
 *
 * @returns whether the statement may succeed when it is sent unprepared
 */
export function recordFailure (
  connection: Connection, statement: Statement | undefined, error: pg.DatabaseError
): boolean {
  const { prepared: statements, bound } = connection
  if (statement === undefined || statements === null || bound || !mayComeOfPreparing(error)) return false
  const { text, prepared } = statement
  if (prepared === null) return false
  if (isMissing(error)) statements.dropped()
  else if (isStalePlan(error)) recordStalePlan(connection, text, prepared)
  else {
    // Parse in this batch was rejected for its text, unless a pooler reused a statement that it had prepared before.
    const wasParsed = prepared.state === 'parsing'
    prepared.state = 'unknown'
    if (wasParsed && !connection.pooled && !isDuplicate(error)) return false
    statement.suspectPlan = prepared
  }
  return true
}

/** The plan of a prepared statement does not fit the table of today. */
export function recordStalePlan (connection: Connection, text: string, prepared: PreparedStatement): void {
  connection.prepared?.outdated(prepared)
  becameStale(text)
}
