import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { refuseUnsupported, ruleFor, rules } from '../../../lib/pgbouncer/rules.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** By what a rule calls its statement. */
const refused: Record<string, string[]> = {
  LISTEN: ['LISTEN news', 'UNLISTEN news', 'UNLISTEN *', 'LISTEN "news"'],
  'SET without LOCAL': [
    "SET search_path = 'a'", 'SET search_path TO a, b', 'SET a.b = 1', 'SET SESSION a.b = 1', 'SET ROLE a', 'SET SESSION AUTHORIZATION a',
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', "SET TIME ZONE 'UTC'", 'SET localtime = 1', 'SET "local" = 1'
  ],
  RESET: ['RESET search_path', 'RESET ALL', 'RESET ROLE'],
  'set_config with is_local false': [
    "SELECT set_config('a.b', '1', false)", "SELECT set_config('a.b', $1, FALSE)", "SELECT set_config('a.b', '1', 'f')", "SELECT set_config('a.b', '1', 'off')",
    "SELECT set_config('a.b', '1', '0'), 2", "SELECT set_config('a.b', 'x,)', false)", "SELECT set_config('a.b', current_setting('a.c', true), false)",
    "SELECT set_config('a.b', concat('a', coalesce($1, 'b'), (SELECT 'c')), false)", "SELECT set_config('a.b', '1', false::boolean)", "SELECT set_config('a.b', (ARRAY['a','b'])[1], false)",
    "SELECT set_config('a.b', '1', is_local => false)", "SELECT set_config('a.b', '1', is_local := false)", "SELECT pg_catalog.set_config('a.b', '1', false)", 'SELECT "set_config"($1, $2, false)',
    "SELECT set_config('a.b', set_config('a.c', '1', false), true)", "SELECT set_config('a.b', '1', true), set_config('a.c', '1', false)",
    "WITH a AS (SELECT set_config('a.b', '1', false)) SELECT * FROM a", "DO $$ BEGIN PERFORM set_config('a.b', '1', false); END $$"
  ],
  'a session advisory lock': [
    'SELECT pg_advisory_lock(1)', 'SELECT pg_try_advisory_lock (1, 2)', 'SELECT pg_advisory_lock_shared($1)', 'SELECT pg_try_advisory_lock_shared(1)', 'SELECT pg_advisory_unlock(1)',
    'SELECT pg_advisory_unlock_shared(1)', 'SELECT pg_advisory_unlock_all()', 'SELECT 1 FROM a WHERE pg_catalog.pg_try_advisory_lock(a.id)', 'SELECT "pg_advisory_lock"(1)',
    'DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$'
  ],
  'a temporary table that outlives the transaction': [
    'CREATE TEMP TABLE a (b int)', 'CREATE TEMPORARY TABLE IF NOT EXISTS a (b int)', 'CREATE LOCAL TEMP TABLE a AS SELECT 1', 'CREATE GLOBAL TEMPORARY TABLE a (b int)',
    'CREATE TEMP TABLE a (b int) ON COMMIT DELETE ROWS', 'CREATE TEMP TABLE a (b int) ON COMMIT PRESERVE ROWS', "CREATE TEMP TABLE a (b text DEFAULT ' on commit drop')",
    'CREATE TABLE pg_temp.a (b int)', 'CREATE TABLE IF NOT EXISTS "pg_temp"."a" (b int)', 'CREATE TABLE pg_temp.a AS SELECT 1', 'CREATE TABLE pg_temp . a (b int)'
  ],
  'SELECT INTO a temporary table': [
    'SELECT 1 AS a INTO TEMP b', 'SELECT * INTO TEMPORARY TABLE b FROM a', 'SELECT * INTO LOCAL TEMP b FROM a', 'WITH a AS (SELECT 1) SELECT * INTO TEMP "b" FROM a', 'SELECT 1 INTO pg_temp.a'
  ],
  'a temporary object that outlives the transaction': [
    'CREATE TEMP VIEW a AS SELECT 1', 'CREATE OR REPLACE TEMPORARY VIEW a AS SELECT 1', 'CREATE TEMP RECURSIVE VIEW a (b) AS SELECT 1', 'CREATE TEMP SEQUENCE a', 'CREATE TEMPORARY SEQUENCE IF NOT EXISTS a',
    'CREATE VIEW pg_temp.a AS SELECT 1', 'CREATE SEQUENCE pg_temp.a', 'CREATE OR REPLACE FUNCTION pg_temp.a() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$', 'CREATE TYPE pg_temp.a AS (b int)'
  ],
  'a cursor WITH HOLD': ['DECLARE a CURSOR WITH HOLD FOR SELECT 1', 'DECLARE "a" BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT 1'],
  PREPARE: ['PREPARE a AS SELECT 1', 'PREPARE a (int) AS SELECT $1', 'PREPARE transactions AS SELECT 1'],
  DEALLOCATE: ['DEALLOCATE a', 'DEALLOCATE ALL', 'DEALLOCATE PREPARE a'],
  DISCARD: ['DISCARD ALL', 'DISCARD PLANS', 'DISCARD TEMP', 'DISCARD SEQUENCES'],
  LOAD: ["LOAD 'auto_explain'"]
}

const fine = [
  'SELECT 1', 'SELECT $1::int', 'INSERT INTO a (b) VALUES ($1)', 'UPDATE a SET b = 1', 'DELETE FROM a', 'VALUES (1)', 'TABLE a', '', ';', '-- nothing',
  'INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET b = 1', 'MERGE INTO a USING b ON true WHEN MATCHED THEN UPDATE SET c = 1', 'ALTER TABLE a SET (fillfactor = 50)', 'ALTER ROLE a SET b = 1', 'ALTER SYSTEM RESET ALL',
  'SET LOCAL search_path = a', 'SET LOCAL ROLE a', 'SET TRANSACTION READ ONLY', 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'SET CONSTRAINTS ALL DEFERRED', 'SHOW search_path',
  "SELECT set_config('a.b', '1', true)", "SELECT set_config('a.b', 'false', true)", "SELECT set_config('a.b', 'f', 't')", 'SELECT set_config($1, $2, $3)', "SELECT set_config('a.b', f(1, 2, false), true)",
  "SELECT my_set_config('a', 'b', false)", "SELECT f('set_config', 'b', false)", 'SELECT set_config FROM a', "SELECT set_config('a.b', '1', true), f(1, 2, false)",
  "SELECT ARRAY['a', false, false], set_config('a.b', '1', true)",
  'SELECT pg_advisory_xact_lock(1)', 'SELECT pg_try_advisory_xact_lock(1)', 'SELECT pg_advisory_xact_lock_shared(1)', 'SELECT pg_advisory_lock FROM a', 'SELECT my_pg_advisory_lock(1)', "SELECT to_regproc('pg_advisory_lock')",
  'CREATE TEMP TABLE a (b int) ON COMMIT DROP', 'CREATE TEMP TABLE a ON COMMIT DROP AS SELECT 1', 'CREATE TEMPORARY TABLE a (b int) on  commit\n drop', 'CREATE TABLE pg_temp.a (b int) ON COMMIT DROP',
  'CREATE TABLE temp (a int)', 'CREATE TABLE temporary AS SELECT 1', 'CREATE INDEX a ON pg_temp.b (c)', 'DROP TABLE pg_temp.a', 'CREATE VIEW temp AS SELECT 1', 'CREATE UNLOGGED TABLE a (b int)', 'CREATE TABLE pg_temporal.a (b int)',
  'INSERT INTO temp SELECT 1', 'INSERT INTO temp (a) VALUES (1)', 'INSERT INTO pg_temp.a VALUES (1)', 'MERGE INTO temp a USING b ON true WHEN MATCHED THEN DELETE', 'SELECT 1 AS a INTO temp', 'SELECT a INTO temp FROM b', 'SELECT a INTO temp2 FROM b',
  'WITH a AS (INSERT INTO temp VALUES (1) RETURNING *) SELECT * FROM a', 'WITH a AS (SELECT 1) INSERT INTO temp SELECT * FROM a', 'SELECT 1 AS temp', 'SELECT temp FROM a', 'SELECT "into", temp b FROM a',
  'DECLARE a CURSOR FOR SELECT 1', 'DECLARE a CURSOR WITHOUT HOLD FOR SELECT 1', "DECLARE a CURSOR FOR SELECT 'cursor with hold'",
  'NOTIFY news', "SELECT pg_notify('news', 'listen')", 'EXECUTE a', 'LOCK TABLE a', 'TRUNCATE a', 'COPY a FROM STDIN', 'EXPLAIN SELECT 1',
  'SELECT listen, unlisten, prepare, discard, load, hold FROM a', 'SELECT 1 AS "LISTEN"', 'INSERT INTO load VALUES (1)', 'listener', 'SETTING', 'LOADED', 'RESETS',
  "SELECT 'LISTEN x; SET a = 1'", 'SELECT $$; LISTEN x $$', "SELECT E'\\'; LISTEN x'", '-- SET a = 1\nSELECT 1', '/* ; LISTEN x; /* DISCARD ALL; */ */ SELECT 1', "INSERT INTO a VALUES ('SELECT pg_advisory_lock(1)')",
  "COMMENT ON TABLE a IS 'CREATE TEMP TABLE b (c int)'", 'SELECT ";LISTEN x"', "SELECT 1 -- '\n, 2 -- '; SET a = 1",
  'CREATE FUNCTION a() RETURNS void LANGUAGE sql SET search_path = b AS $$ SELECT pg_advisory_lock(1); SET c = 1 $$', "CREATE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT 1; SELECT set_config('a.b', '1', true); END",
  'CREATE RULE a AS ON INSERT TO b DO ALSO (UPDATE c SET d = 1; NOTIFY e)', 'DO $$ BEGIN PERFORM pg_advisory_xact_lock(1); END $$', "DO $$ BEGIN RAISE NOTICE 'pg_advisory_lock(1)'; END $$",
  'SELECT 1; SELECT 2', "SELECT 1; SET LOCAL a.b = 'c'; SELECT 2"
]

/** The same statement, written otherwise or among others. */
const written: Record<string, (text: string) => string> = {
  'as it is': (text) => text,
  'in lower case': (text) => text.toLowerCase(),
  'in upper case': (text) => text.toUpperCase(),
  'with a semicolon': (text) => `${text};`,
  'behind white space': (text) => `\n\t ${text}`,
  'behind comments': (text) => `-- it's\n/* " /* nested */ $$ */${text}`,
  'on many lines': (text) => text.replaceAll(' ', '\r\n  '),
  'with comments between its words': (text) => text.replaceAll(' ', '/* ; */').replaceAll('--', '--\n'),
  'behind another one': (text) => `SELECT 1; ${text}`,
  'in front of another one': (text) => `${text}; SELECT 1`,
  'behind strings': (text) => `SELECT 'it''s', E'\\'', $a$ ' $a$, "a""b"; ${text}`
}

for (const [what, texts] of Object.entries(refused)) {
  t.test(`${what} is seen, however it is written`, async (t) => {
    for (const text of texts) {
      for (const [how, write] of Object.entries(written)) {
        // White space inside of a string, and upper case inside of quotes, make it another statement.
        if (/many lines|comments between|upper case/.test(how) && /['"]/.test(text)) continue
        t.equal(ruleFor(write(text))?.what, what, `${how}: ${text}`)
      }
    }
  })

  t.test(`${what} inside of a string, a comment or a quoted name is not taken for it`, async (t) => {
    for (const text of texts) {
      for (const hidden of [`SELECT '; ${text.replaceAll("'", "''")}'`, `SELECT $a$; ${text} $a$`, `/* ; ${text} */ SELECT 1`, `SELECT 1 AS "; ${text.replaceAll('"', '""')}"`, `SELECT E'\\'; ${text.replaceAll("'", "\\'")}'`]) {
        t.equal(ruleFor(hidden), null, hidden)
      }
    }
  })
}

t.test('every rule was tried', async (t) => {
  t.same(Object.keys(refused), rules.map(({ what }) => what))
})

t.test('what looks alike and works is not refused', async (t) => {
  for (const text of fine) {
    for (const write of [(text: string) => text, (text: string) => text.toLowerCase(), (text: string) => `/* a */ ${text};`, (text: string) => `SELECT 1; ${text}`]) t.equal(ruleFor(write(text)), null, write(text))
  }
})

t.test('the refusal names the statement, the reason and the way to do it', async (t) => {
  for (const { what, reason, instead } of rules) {
    const [text] = refused[what]!
    t.throws(() => refuseUnsupported(text!), { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED', statusCode: 500, details: `${what} cannot work behind a pooler in transaction mode: ${reason}. ${instead}. On a direct connection it is allowed.` })
  }
  t.doesNotThrow(() => refuseUnsupported('SELECT 1'))
})

t.test('texts that are built anew each time are told apart, and are not kept for ever', async (t) => {
  for (let i = 0; i < 60_000; i++) if (ruleFor(`SELECT ${i} AS set`) !== null || ruleFor(`SET a.b = ${i}`)?.what !== 'SET without LOCAL') return t.fail(String(i))
  const heap = (): number => {
    gc()
    return process.memoryUsage().heapUsed
  }
  const before = heap()
  for (let i = 0; i < 100; i++) t.equal(ruleFor(`SET a.b = '${'x'.repeat(1_000_000)}${i}'`)?.what, 'SET without LOCAL')
  const grown = Math.round((heap() - before) / 1e6)
  t.ok(grown < 20, `100 texts of 1 MB, and ${grown} MB more`)
})
