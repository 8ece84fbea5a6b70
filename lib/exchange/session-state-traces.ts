import { otherCalls } from '../postgres/function-calls.ts'
import { leavesState } from '../pgbouncer/rules.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import { statementsOf } from '../postgres/statement-words.ts'

/** Every text that leaves or defines something has one of these words, unless it calls a function. */
const suspicious = /\b(?:(?:un)?listen|set|temp(?:orary)?|pg_temp|hold|prepare|do|create|alter)\b/i
const defines = /^(?:create|alter) (?!(?:(?:global |local )?temp|(?:unique )?index|database|role|user\b(?! mapping)|tablespace|system)\b)/i
/** The code of a DO block may hold any statement in a string. */
const doBlock = /^do\b/i
/** Names of temporary objects, or the schema in which the next objects are made. */
const temporarySchema = /\bpg_temp\b/i

/** What a text may leave behind, or null: most leave nothing. */
export function tracesOf (text: string): Traces | null {
  if (!text.includes('(') && !suspicious.test(text)) return null
  const statements = statementsOf(text)
  const calls = new Set<string>()
  for (const statement of statements) for (const name of otherCalls(statement)) calls.add(name)
  const runsCode = statements.some((statement) => doBlock.test(statement))
  const state = runsCode || statements.some((statement) => leavesState(statement) || temporarySchema.test(statement))
  const definesAny = runsCode || statements.some((statement) => defines.test(statement))
  return state || definesAny || calls.size > 0 ? { state, calls: [...calls], defines: definesAny } : null
}
