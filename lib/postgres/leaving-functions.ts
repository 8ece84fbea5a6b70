// Finds the functions whose code leaves session state on its connection.

/** What precedes a statement in the code of a function. */
const begins = '(^|;|\'|\\$|\\*/|\\m(begin|then|else|loop)\\M)\\s*'
const lastArgument = ',\\s*(is_local\\s*(=>|:=)\\s*)?'
const falsehood = '(false|\'\\s*(f[a-z]*|no?|off?|0)\\s*\')\\s*(::\\s*bool\\w*\\s*)?\\)'

/**
 * Code in a function that leaves session state, in lower case
 * (https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS).
 */
const leaves = [
  `${begins}(set\\s+(?!(local|transaction|constraints)\\M)|listen\\M|prepare\\s+(?!transaction\\M))`,
  '\\mpg_(try_)?advisory_lock(_shared)?\\s*\\(',
  '\\mcreate\\s+(or\\s+replace\\s+)?((global|local)\\s+)?temp(orary)?\\s+(?![^;]*\\mon\\s+commit\\s+drop\\M)',
  '\\minto\\s+temp(orary)?\\s',
  '\\mpg_temp\\M',
  '\\mwith\\s+hold\\M',
  `\\mset_config\\s*?\\([^;]*?${lastArgument}${falsehood}`,
  // The text of the statement is in a variable, so it may be any statement.
  '\\mexecute\\s+(?!\'|\\$|format\\s*\\(\\s*\'|(function|procedure|on)\\M)'
].join('|')
const localConfig = `\\mset_config\\s*?\\([^;]*?${lastArgument}true\\s*\\)`

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/**
 * Returns the names of functions and procedures whose code may leave session state, directly or through another
 * function, and whether one of them is called by a trigger, a view, a default or a policy, which the text of a
 * statement does not show. Languages 12 and 13 are internal and C, whose code cannot be read.
 */
export const leavingFunctions = `
  WITH RECURSIVE own AS MATERIALIZED (
    SELECT oid, proname, regexp_replace(
             lower(CASE WHEN prosrc = '' AND prokind <> 'a' THEN pg_get_functiondef(oid) ELSE prosrc END),
             '--[^\\n]*', '', 'g') AS source
      FROM pg_catalog.pg_proc WHERE oid >= 16384 AND prolang NOT IN (12, 13)
  ), leaving AS (
    SELECT oid, proname FROM own
     WHERE source ~ ${quote(leaves)} OR regexp_replace(source, ${quote(localConfig)}, '', 'g') ~ '\\mset_config\\s*\\('
    UNION
    SELECT own.oid, own.proname FROM own JOIN leaving ON strpos(own.source, lower(leaving.proname)) > 0
  )
  SELECT coalesce(json_agg(DISTINCT proname), '[]'),
         EXISTS (SELECT FROM pg_catalog.pg_depend JOIN leaving ON refobjid = leaving.oid
                  WHERE refclassid = 'pg_catalog.pg_proc'::regclass AND classid <> 'pg_catalog.pg_proc'::regclass
                    AND deptype = 'n')
    FROM leaving`
