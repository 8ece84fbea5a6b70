import { splitStatements, statementsOf } from '../postgres/statement-words.ts'

/** A statement that is done in another way inside of the outer transaction. */
export type Control =
  | { readonly kind: 'begin', readonly tag: string, readonly readOnly: boolean | undefined }
  | { readonly kind: 'commit' | 'rollback', readonly chain: boolean }
  | { readonly kind: 'prepare' | 'discard' }
  /** SET TRANSACTION with an isolation level. `rest`: what is left without it, or null. */
  | { readonly kind: 'modes', readonly rest: string | null }

/** A text without these words has no such statement. */
const rareWords = /\b(?:begin|start|commit|end|rollback|abort|prepare|discard|transaction\w*)\b/i
const ofSavepoint = /^rollback (?:(?:work|transaction) )?to\b/i
const isolation = /^set (?:(?:local|session) )?transaction (?:.*[ ,])?(?:isolation level|deferrable)\b/i
const isolationSetting = /^set (?:(?:local|session) )?"?transaction_(?:isolation|deferrable)"?(?: to\b| ?=)/i

/** @returns null for a statement that runs as it is */
export function controlOf (text: string): Control | null {
  if (!rareWords.test(text)) return null
  const statements = statementsOf(text)
  return statements.length === 1 ? controlOfStatement(statements[0]!) : null
}

function controlOfStatement (words: string): Control | null {
  if (/^begin\b(?! atomic)/i.test(words)) return { kind: 'begin', tag: 'BEGIN', readOnly: readOnly(words) }
  if (/^start transaction\b/i.test(words)) return { kind: 'begin', tag: 'START TRANSACTION', readOnly: readOnly(words) }
  const chain = /\band chain\b/i.test(words)
  if (/^(?:commit|end)\b(?! prepared)/i.test(words)) return { kind: 'commit', chain }
  const ends = /^(?:rollback|abort)\b(?! prepared)/i.test(words) && !ofSavepoint.test(words)
  if (ends) return { kind: 'rollback', chain }
  if (/^prepare transaction\b/i.test(words)) return { kind: 'prepare' }
  if (/^discard all\b/i.test(words)) return { kind: 'discard' }
  if (isolationSetting.test(words)) return { kind: 'modes', rest: null }
  if (!isolation.test(words)) return null
  const mode = readOnly(words)
  return { kind: 'modes', rest: mode === undefined ? null : `SET TRANSACTION READ ${mode ? 'ONLY' : 'WRITE'}` }
}

/** The last mode counts, as in PostgreSQL. */
function readOnly (words: string): boolean | undefined {
  const mode = words.match(/\bread (?:only|write)\b/gi)?.at(-1)
  return mode === undefined ? undefined : /only$/i.test(mode)
}

/** The statements of a text if one of them is a Control, or null if the text runs as it is. */
export function controlledStatements (text: string): { text: string, control: Control | null }[] | null {
  if (!rareWords.test(text)) return null
  const statements = splitStatements(text).map((text) => ({ text, control: controlOf(text) }))
  return statements.some(({ control }) => control !== null) ? statements : null
}

/** The text may create a temporary table that COMMIT drops. */
export function dropsTables (text: string): boolean {
  return /\bon\s+commit\s+drop\b/i.test(text)
}
