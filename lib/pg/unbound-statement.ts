import { pgScopeError } from '../errors.ts'
import { statementsOf } from '../postgres/statement-words.ts'

/** A text without these words has no such statement. */
const suspicious = /\b(?:(?:un)?listen|set|set_config|temp(?:orary)?|prepare|execute|advisory_\w*|pg_\w*advisory_\w*)\b/i

/**
 * Statements whose only use is what they leave on their connection, or that need what is left there. Libraries set
 * what text looks like to what it is in any case.
 */
const bound = [
  /^(?:un)?listen\b/i, /\bpg_(?:try_)?advisory_(?:un)?lock(?!\w*xact)/i,
  /^set (?!local\b|transaction\b|constraints\b|names\b|client_encoding\b|standard_conforming_strings\b)/i,
  /^(?:prepare (?!transaction\b)|execute )/i
]

/** They serve the statements behind them in the same text. */
const leaving = [/^create (?:(?:global|local) )?temp(?:orary)?\b/i, /\bset_config ?\(.*\bfalse ?\)/i]

/**
 * Rejects what belongs to a connection where each statement may run on another one.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function checkUnbound ({ text }: { text?: unknown }): void {
  if (typeof text !== 'string' || !suspicious.test(text)) return
  const statements = statementsOf(text)
  const last = statements.at(-1) ?? ''
  const isBound = statements.every((words) => matches(bound, words)) && statements.length > 0
  if (!isBound && !matches(bound, last) && !matches(leaving, last)) return
  throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'SET, PREPARE, temporary tables, LISTEN and session advisory ' +
    'locks belong to a connection, and outside of a session and of BEGIN each statement runs on any connection of ' +
    'the pool. Use the same text or a transaction for all of it, the options of the plugin for settings, an advisory ' +
    'lock of a transaction, or app.db.lease(fn), whose client is one of pg.')
}

function matches (patterns: readonly RegExp[], words: string): boolean {
  return patterns.some((pattern) => pattern.test(words))
}
