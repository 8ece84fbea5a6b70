import { pgScopeError } from '../errors.ts'

interface Rule {
  /** What the statement is called in the message. */
  readonly what: string
  readonly matches: RegExp
  /** Why it cannot work where each transaction may run on another server connection. */
  readonly reason: string
  /** How to do it. */
  readonly instead: string
}

/** One space or comment. No part of it can be read in two ways, so that no text makes the search take long. */
const space = '(?:\\s|/\\*(?:[^*]|\\*(?!/))*\\*/|--[^\\n]*\\n)'
const at = (words: string): RegExp => new RegExp(`^(?:${space}|\\()*${words.replaceAll(' ', `${space}+`)}`, 'i')

/**
 * What cannot work behind a pooler that gives out a server connection for one transaction
 * (https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes).
 */
export const rules: readonly Rule[] = [
  {
    what: 'LISTEN',
    matches: at('(?:un)?listen\\b'),
    reason: 'notifications go to a server connection that belongs to somebody else after the transaction',
    instead: 'Listen on a direct connection to PostgreSQL (register a second engine for it); NOTIFY works here'
  },
  {
    what: 'SET without LOCAL',
    matches: at('set\\b(?! (?:local|transaction|constraints)\\b)'),
    reason: 'it stays on the server connection, and whoever gets that next has it',
    instead: 'Use SET LOCAL, or the settings, role and timeout options, which are local to the transaction'
  },
  {
    what: 'RESET',
    matches: at('reset\\b'),
    reason: 'it changes a server connection that belongs to somebody else after the transaction',
    instead: 'Settings that are local to the transaction end by themselves'
  },
  {
    what: 'set_config with is_local false',
    matches: /\bset_config\s*\([^()]*,\s*(?:false|'(?:f|false|off|0)')\s*\)/i,
    reason: 'the setting stays on the server connection, and whoever gets that next has it',
    instead: 'Pass true as the third argument, or use the settings option'
  },
  {
    what: 'a session advisory lock',
    matches: /\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared|_all)?\s*\(/i,
    reason: 'the lock stays on the server connection after the transaction, and nobody can release it',
    instead: 'Use pg_advisory_xact_lock, which ends with the transaction'
  },
  {
    what: 'a temporary table that outlives the transaction',
    matches: at('create (?:global |local )?temp(?:orary)? table\\b(?![\\s\\S]*\\bon\\s+commit\\s+drop\\b)'),
    reason: 'it stays on the server connection, where others see it',
    instead: 'Add ON COMMIT DROP'
  },
  {
    what: 'a cursor WITH HOLD',
    matches: at('declare\\b[\\s\\S]*?\\bwith\\s+hold\\b'),
    reason: 'it stays on the server connection, where others can fetch from it',
    instead: 'Use stream(), whose cursor lives in the transaction'
  },
  {
    what: 'PREPARE',
    matches: at('prepare\\b(?! transaction\\b)'),
    reason: 'the statement is known to one server connection only, and the next transaction may run on another one',
    instead: 'Use query({ name, text, values })'
  },
  {
    what: 'DEALLOCATE',
    matches: at('deallocate\\b'),
    reason: 'it changes a server connection that belongs to somebody else after the transaction',
    instead: 'Nothing needs to be deallocated here'
  },
  {
    what: 'DISCARD',
    matches: at('discard\\b'),
    reason: 'it changes a server connection that belongs to somebody else after the transaction',
    instead: 'Nothing needs to be discarded here'
  },
  {
    what: 'LOAD',
    matches: at('load\\b'),
    reason: 'the library is loaded into one server connection only',
    instead: 'Set session_preload_libraries for the database or the role'
  }
]

/**
 * A statement is looked at once: applications send the same few texts over and over. Bounded, for texts that are built anew each time.
 */
const known = new Map<string, Rule | null>()
const mostKnown = 2000

export function ruleFor (text: string): Rule | null {
  let rule = known.get(text)
  if (rule === undefined) {
    rule = rules.find(({ matches }) => matches.test(text)) ?? null
    if (known.size >= mostKnown) known.clear()
    known.set(text, rule)
  }
  return rule
}

/**
 * Refuses what cannot work behind transaction pooling.
 *
 * @throws FST_PG_SCOPE_POOLER_UNSUPPORTED
 */
export function refuseUnsupported (text: string): void {
  const rule = ruleFor(text)
  if (rule === null) return
  throw pgScopeError('FST_PG_SCOPE_POOLER_UNSUPPORTED', `${rule.what} cannot work behind a pooler in transaction mode: ${rule.reason}. ${rule.instead}. On a direct connection it is allowed.`)
}
