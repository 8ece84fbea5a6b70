import { otherCalls } from '../postgres/function-calls.ts'
import { leavesState } from '../pgbouncer/rules.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import { statementsOf } from '../postgres/statement-words.ts'

/** A text that leaves session state or defines an object contains one of these words, or calls a function. */
const suspicious = /\b(?:(?:un)?listen|set|temp(?:orary)?|pg_temp|hold|prepare|do|create|alter)\b/i
const defines = /^(?:create|alter) (?!(?:(?:global |local )?temp|(?:unique )?index|database|role|user\b(?! mapping)|tablespace|system)\b)/i
/** The code of a DO block may hold any statement in a string. */
const doBlock = /^do\b/i
/** Names of temporary objects, or the schema in which the next objects are made. */
const temporarySchema = /\bpg_temp\b/i

/** The session state that a text may leave on its connection; null for most texts. */
export function tracesOf (text: string): Traces | null {
  if (!text.includes('(') && !suspicious.test(text)) return null
  const statements = statementsOf(text)
  const calls = new Set<string>()
  for (const statement of statements) for (const name of otherCalls(statement)) calls.add(name)
  const runsCode = statements.some((statement) => doBlock.test(statement))
  const state = runsCode || statements.some((statement) => leavesState(statement) || temporarySchema.test(statement))
  const definesObjects = runsCode || statements.some((statement) => defines.test(statement))
  if (!state && !definesObjects && calls.size === 0) return null
  return { state, calls: [...calls], defines: definesObjects }
}
