import { pgScopeError } from '../errors.ts'
import { statementsOf } from '../postgres/statement-words.ts'
import { TextMemo } from '../postgres/text-memo.ts'

export interface Rule {
  /** The statement's name in the error message. */
  readonly what: string
  /** Called with one statement in the form that statementsOf() returns. */
  readonly matches: (statement: string) => boolean
  /** Why it cannot work if each transaction may run on another server connection. */
  readonly reason: string
  /** What to do instead. */
  readonly instead: string
  /** It only clears state, or leaves state that does not affect the next session. */
  readonly harmless?: true
}

/** Matches statements that begin with these words. One space matches any white space. */
const begins = (words: string) => matching(`^${words}`)
const matching = (words: string) => {
  const pattern = new RegExp(words, 'i')
  return (statement: string): boolean => pattern.test(statement)
}

const changesOthers = 'it changes a server connection that other clients use after the transaction'
const seenByOthers = 'it stays on the server connection, where other clients see it'

/**
 * Statements that cannot work behind a pooler that assigns a server connection for one transaction
 * (https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes).
 */
export const rules: readonly Rule[] = [
  {
    what: 'LISTEN',
    matches: begins('(?:un)?listen\\b'),
    reason: 'notifications go to a server connection that other clients use after the transaction',
    instead: 'Listen on a direct connection to PostgreSQL (register a second engine for it); NOTIFY works here'
  },
  {
    what: 'SET without LOCAL',
    matches: begins('set\\b(?! (?:local|transaction|constraints)\\b)'),
    reason: 'it stays on the server connection and affects the next client',
    instead: 'Use SET LOCAL, or the settings, role and timeout options, which are local to the transaction'
  },
  {
    what: 'RESET',
    harmless: true,
    matches: begins('reset\\b'),
    reason: changesOthers,
    instead: 'Settings that are local to the transaction end by themselves'
  },
  {
    what: 'set_config with is_local false',
    matches: setsForSession,
    reason: 'the setting stays on the server connection and affects the next client',
    instead: 'Pass true as the third argument, or use the settings option'
  },
  {
    what: 'a session advisory lock',
    matches: matching('\\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared|_all)?"? ?\\('),
    reason: 'the lock stays on the server connection after the transaction, where this client cannot release it',
    instead: 'Use pg_advisory_xact_lock, which ends with the transaction'
  },
  {
    what: 'a temporary table that outlives the transaction',
    matches: begins(
      'create (?:(?:global |local )?temp(?:orary)? table\\b|table (?:if not exists )?"?pg_temp"? ?\\.)(?!.* on ' +
        'commit drop\\b)'
    ),
    reason: seenByOthers,
    instead: 'Add ON COMMIT DROP'
  },
  {
    what: 'SELECT INTO a temporary table',
    // INSERT INTO temp is about a table of that name, and so is a SELECT INTO temp behind which no other name stands.
    matches: begins(
      '(?:select|with)\\b.*(?<!\\b(?:insert|merge) )\\binto (?:(?:global |local )?temp(?:orary)? ' +
        '(?!(?:from|where|group|having|window|union|intersect|except|order|limit|offset|fetch|for)\\b)["a-z_]|' +
        '"?pg_temp"? ?\\.)'
    ),
    reason: seenByOthers,
    instead: 'Use CREATE TEMPORARY TABLE … ON COMMIT DROP AS SELECT'
  },
  {
    what: 'a temporary object that outlives the transaction',
    matches: begins(
      'create (?:or replace )?(?:(?:global |local )?temp(?:orary)? (?:(?:recursive ' +
        ')?view|sequence)\\b|(?:(?:recursive )?view|sequence|function|procedure|type|domain) (?:if not exists ' +
        ')?"?pg_temp"? ?\\.)'
    ),
    reason: seenByOthers,
    instead: 'Use a common table expression (WITH), or a temporary table with ON COMMIT DROP'
  },
  {
    what: 'a cursor WITH HOLD',
    matches: begins('declare\\b.*\\bcursor with hold\\b'),
    reason: 'it stays on the server connection, where other clients can fetch from it',
    instead: 'Use stream(), whose cursor lives in the transaction'
  },
  {
    what: 'PREPARE',
    matches: begins('prepare\\b(?! transaction\\b)'),
    reason: 'the statement is known to one server connection only, and the next transaction may run on another one',
    instead: 'Use query({ name, text, values })'
  },
  {
    what: 'DEALLOCATE',
    harmless: true,
    matches: begins('deallocate\\b'),
    reason: changesOthers,
    instead: 'Nothing needs to be deallocated here'
  },
  {
    what: 'DISCARD',
    harmless: true,
    matches: begins('discard\\b'),
    reason: changesOthers,
    instead: 'Nothing needs to be discarded here'
  },
  {
    what: 'LOAD',
    harmless: true,
    matches: begins('load\\b'),
    reason: 'the library is loaded into one server connection only',
    instead: 'Set session_preload_libraries for the database or the role'
  }
]

/** Every text that a rule matches has one of these words. Most texts have none and need no further check. */
const suspicious = /\b(?:(?:un)?listen|(?:re)?set|set_config|pg_(?:try_)?advisory_(?:un)?lock(?:_shared|_all)?|temp(?:orary)?|pg_temp|hold|prepare|deallocate|discard|load)\b/i

/** The delimiters of arguments, and the calls of set_config. */
const parts = /(\bset_config"? ?)?\(|[)[\],]/gi
const isFalse = /^ ?(?:is_local ?(?:=>|:=) ?)?false(?: ?:: ?bool(?:ean)?)? ?$/i
const isTrue = /^ ?(?:is_local ?(?:=>|:=) ?)?true(?: ?:: ?bool(?:ean)?)? ?$/i

/** The last argument of each set_config. The other arguments may contain parentheses and commas. */
function * lastArguments (statement: string): Iterable<string> {
  if (!/\bset_config\b/i.test(statement)) return
  const open: { readonly name: string | undefined, from: number }[] = []
  for (const { 0: part, 1: name, index } of statement.matchAll(parts)) {
    const from = index + part.length
    const innermost = open.at(-1)
    if (part.endsWith('(') || part === '[') open.push({ name, from })
    else if (innermost === undefined) continue
    else if (part === ',') innermost.from = from
    else {
      open.pop()
      if (innermost.name !== undefined) yield statement.slice(innermost.from, index)
    }
  }
}

function setsForSession (statement: string): boolean {
  for (const argument of lastArguments(statement)) if (isFalse.test(argument)) return true
  return false
}

/**
 * Whether a statement, as statementsOf() returns it, leaves state on its connection. A set_config does unless its
 * last argument is true.
 */
export function leavesState (statement: string): boolean {
  for (const argument of lastArguments(statement)) if (!isTrue.test(argument)) return true
  return rules.some(({ matches, harmless }) => harmless !== true && matches(statement))
}

const known = new TextMemo((text) => suspicious.test(text) ? brokenBy(text) : null)

export function ruleFor (text: string): Rule | null {
  return known.of(text)
}

function brokenBy (text: string): Rule | null {
  const statements = statementsOf(text)
  return rules.find(({ matches }) => statements.some(matches)) ?? null
}

/** The error of a statement that cannot work behind transaction pooling. */
export function unsupportedError ({ what, reason, instead }: Rule): Error {
  return pgScopeError('FST_PG_SCOPE_POOLER_UNSUPPORTED', `${what} cannot work behind a pooler in transaction ` +
    `mode: ${reason}. ${instead}. On a direct connection it is allowed.`)
}

/** @throws FST_PG_SCOPE_POOLER_UNSUPPORTED if the text cannot work behind transaction pooling */
export function refuseUnsupported (text: string): void {
  const rule = ruleFor(text)
  if (rule !== null) throw unsupportedError(rule)
}
