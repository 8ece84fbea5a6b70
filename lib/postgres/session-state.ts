// What outlives a session on its connection: how a text shows it, and how the code of a function does.
import { otherCalls } from './function-calls.ts'
import { leavesState } from './pooler-rules.ts'
import { statementsOf } from './statement-words.ts'

/** What a text may leave behind on its connection. */
export interface Traces {
  /** It leaves state behind by itself: SET, LISTEN, a temporary table, … */
  readonly state: boolean
  /** Functions that it calls and that are not known to be PostgreSQL's own: the text does not show what they leave behind. */
  readonly calls: readonly string[]
  /** It may define a function, or something that calls one: a trigger, a view, a policy. */
  readonly defines: boolean
}

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

/** What stands in front of a statement in the code of a function. */
const begins = '(^|;|\'|\\$|\\*/|\\m(begin|then|else|loop)\\M)\\s*'
const lastArgument = ',\\s*(is_local\\s*(=>|:=)\\s*)?'
const falsehood = '(false|\'\\s*(f[a-z]*|no?|off?|0)\\s*\')\\s*(::\\s*bool\\w*\\s*)?\\)'

/** What leaves state behind in the code of a function, in lower case (https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS). */
const leaves = [
  `${begins}(set\\s+(?!(local|transaction|constraints)\\M)|listen\\M|prepare\\s+(?!transaction\\M))`,
  '\\mpg_(try_)?advisory_lock(_shared)?\\s*\\(',
  '\\mcreate\\s+(or\\s+replace\\s+)?((global|local)\\s+)?temp(orary)?\\s+(?![^;]*\\mon\\s+commit\\s+drop\\M)',
  '\\minto\\s+temp(orary)?\\s',
  '\\mpg_temp\\M',
  '\\mwith\\s+hold\\M',
  `\\mset_config\\s*?\\([^;]*?${lastArgument}${falsehood}`,
  // A statement that comes from a variable may be any.
  '\\mexecute\\s+(?!\'|\\$|format\\s*\\(\\s*\'|(function|procedure|on)\\M)'
].join('|')
const localConfig = `\\mset_config\\s*?\\([^;]*?${lastArgument}true\\s*\\)`

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/**
 * Asks for the names of functions and procedures whose code may leave state behind, directly or through another function, and whether
 * a trigger, a view, a default, a policy or the like calls one, which no text shows. Languages 12 and 13 are internal and C, whose
 * code cannot be read.
 */
export const leavingFunctions = `
  WITH RECURSIVE own AS MATERIALIZED (
    SELECT oid, proname, regexp_replace(
             lower(CASE WHEN prosrc = '' AND prokind <> 'a' THEN pg_get_functiondef(oid) ELSE prosrc END), '--[^\\n]*', '', 'g') AS source
      FROM pg_catalog.pg_proc WHERE oid >= 16384 AND prolang NOT IN (12, 13)
  ), leaving AS (
    SELECT oid, proname FROM own
     WHERE source ~ ${quote(leaves)} OR regexp_replace(source, ${quote(localConfig)}, '', 'g') ~ '\\mset_config\\s*\\('
    UNION
    SELECT own.oid, own.proname FROM own JOIN leaving ON strpos(own.source, lower(leaving.proname)) > 0
  )
  SELECT coalesce(json_agg(DISTINCT proname), '[]'),
         EXISTS (SELECT FROM pg_catalog.pg_depend JOIN leaving ON refobjid = leaving.oid
                  WHERE refclassid = 'pg_catalog.pg_proc'::regclass AND classid <> 'pg_catalog.pg_proc'::regclass AND deptype = 'n')
    FROM leaving`
