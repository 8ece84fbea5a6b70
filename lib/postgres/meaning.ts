// Whether a statement can be prepared without changing what it means: a prepared statement keeps the meaning that it
// had when it was parsed.
import { callsOthers } from './function-calls.ts'
import { literalsOf, statementsOf } from './statement-words.ts'

/** Other statements may return other columns each time: FETCH, EXECUTE, SHOW, CALL. */
const rowWords = /^(?:select|insert|update|delete|merge|with|values|table)\b/i

/**
 * These words become a point in time when they are parsed, alone or in a range or an array
 * (https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES).
 */
const moments = /now|today|tomorrow|yesterday/i

/** Literals of these types are resolved when they are parsed: by the catalog, or by today's rules of a time zone. */
const lookedUp = /\breg(?:proc|procedure|oper|operator|type|role|namespace|config|dictionary|collation)\b|\btimetz\b|\btime(?: ?\(\d\))? with time zone\b/i

/** Two literals that PostgreSQL joins because only a line break separates them. */
const joined = /(?:''|\bfalse) ?(?:''|false\b)/i

/** Whether a text reads or writes rows, and means the same each time if names and settings mean the same. */
export function hasStablePlan (text: string): boolean {
  const [statement, ...others] = statementsOf(text)
  if (statement === undefined || others.length > 0 || !rowWords.test(statement)) return false
  return !literalsOf(text).some(mayMove) && !joined.test(statement) && !lookedUp.test(statement) &&
    !callsOthers(statement)
}

/** An escape may hide a word. With standard_conforming_strings off this is true of plain literals too. */
function mayMove (literal: string): boolean {
  return literal.includes('\\') || moments.test(literal)
}

/** Settings that change the meaning of no statement. Names with a dot belong to the application. */
const harmless = new Set([
  'application_name', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout',
  'transaction_read_only', 'transaction_isolation', 'transaction_deferrable', 'synchronous_commit', 'work_mem'
])

function isHarmless (setting: string): boolean {
  return setting.includes('.') || harmless.has(setting.toLowerCase())
}

/**
 * Whether these settings may change what statements mean. A role does: "$user" in search_path is then another schema.
 */
export function alterMeaning (settings: Readonly<Record<string, string>>): boolean {
  for (const name in settings) if (!isHarmless(name)) return true
  return false
}

/**
 * Every text that changes a setting, creates a temporary object or runs code that may do either contains one of these.
 */
const suspicious = /\b(?:set|reset|set_config|temp|temporary|pg_temp|do|call|execute|discard)\b|\(/i

const sets = /^(?:re)?set\b(?! (?:transaction|constraints|session characteristics)\b)/i
const settingSet = /^set (?:local |session )?"?([\w.$]+)"?(?: to\b| ?=)/i
const makesTemporary = /^create (?:or replace )?(?:global |local )?temp(?:orary)?\b|(?<!\b(?:insert|merge) )\binto (?:global |local )?temp(?:orary)?\b|\bpg_temp\b|^discard\b/i
const runsCode = /^(?:do|call|execute)\b/i
/** The first argument, if it is a literal. */
const configured = /\bset_config\s*\(\s*(?:'([^']*)')?/gi

/**
 * Whether a text may change what later statements mean: it changes a setting, or it may create a temporary table, which
 * hides another table of the same name.
 */
export function altersMeaning (text: string): boolean {
  if (!suspicious.test(text)) return false
  if (/\bset_config\b/i.test(text)) {
    for (const [, name] of text.matchAll(configured)) if (name === undefined || !isHarmless(name)) return true
  }
  return statementsOf(text).some((statement) => {
    if (sets.test(statement)) return !isHarmless(settingSet.exec(statement)?.[1] ?? '')
    return makesTemporary.test(statement) || runsCode.test(statement) || callsOthers(statement)
  })
}

/** Words of statements whose effect on their transaction the server does not count as a write. */
const unwritten = /\b(?:set|reset|set_config|notify|pg_notify|listen|unlisten|do|call|execute|prepare|declare)\b|\(/i
const notifies = /^(?:un)?listen\b|^notify\b|^prepare\b|^declare\b|\b(?:set_config|pg_notify)\b/i

/**
 * Whether a text may have an effect on its transaction that is not a write: it changes a setting or sends a NOTIFY, by
 * itself or in a function.
 */
export function mayAffectTransaction (text: string): boolean {
  return unwritten.test(text) && statementsOf(text).some((statement) =>
    sets.test(statement) || notifies.test(statement) || runsCode.test(statement) || callsOthers(statement))
}

const setsSession = /^(?:re)?set\b(?! local\b)/i
const setsLocally = /\bset_config\b.*\btrue\b/i

/**
 * Whether a text changes what later statements mean beyond the end of its transaction, so that statements that were
 * prepared before it are out of date.
 */
export function setsForGood (text: string): boolean {
  return statementsOf(text).some(
    (statement) => setsSession.test(statement) || (/\bset_config\b/i.test(statement) && !setsLocally.test(statement))
  )
}
