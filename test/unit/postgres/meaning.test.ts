import t from 'tap'
import { alterMeaning, altersMeaning, hasStablePlan } from '../../../lib/postgres/meaning.ts'
import * as bench from '../../../harness/workload-statements.ts'

const stable = [
  bench.read, bench.update, bench.insert, bench.readAsUser,
  'SELECT * FROM t WHERE a = $1', 'select lower(a), count(*) from t where b in ($1, $2) group by a', 'SELECT "lower"(a) FROM t',
  'INSERT INTO shop.orders (a, b) VALUES ($1, now()) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING id',
  'WITH a (x) AS (SELECT 1) SELECT x FROM a', 'SELECT * FROM unnest($1::int[]) WITH ORDINALITY AS t(a, n)', 'SELECT * FROM jsonb_to_recordset($1) AS t(a int)',
  'SELECT a::numeric(10, 2), b::varchar(3) FROM t', 'SELECT \'a literal\', $$another$$, \'2024-01-01\'::date FROM t', 'SELECT nextval(\'numbers\')',
  'SELECT pg_catalog.format(\'%s\', a) FROM t', 'SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t', 'TABLE t', 'VALUES (1)',
  'SELECT set_config(\'app.tenant\', $1, true)', 'SELECT 1 -- now', 'SELECT 1 /* other() */'
]

t.test('what reads or writes rows and calls nothing but PostgreSQL\'s own functions can be prepared', async t => {
  for (const text of stable) {
    t.ok(hasStablePlan(text), text)
    t.notOk(altersMeaning(text), text)
  }
})

const literals = [
  '\'now\'', '\'NOW\'', '\' now\'', '\'{now}\'', '\'[today,tomorrow)\'', '\'yesterday 10:00\'', '$$now$$', '$a$ today $a$', 'E\'\\nnow\'', 'E\'n\\x6fw\'', 'e\'\\156ow\'',
  'U&\'\\006eow\'', 'u&\'!006eow\' UESCAPE \'!\'', '\'n\\157w\'', '\'no\'\n\'w\'', '\'to\' -- a comment\n \'day\'', 'N\'now\'', '\'public\'::regnamespace', '\'12:00 Europe/Berlin\'::timetz', 'time with time zone \'12:00\''
]

t.test('a literal whose value is decided when it is parsed keeps a text from being prepared, however it is written', async t => {
  for (const literal of literals) t.notOk(hasStablePlan(`SELECT a FROM t WHERE b > ${literal}`), literal)
})

const unknown = ['SELECT my_function($1)', 'SELECT shop.lower(a) FROM t', 'SELECT "Lower"(a), "My" (b) FROM t', 'SELECT * FROM my_rows()', 'INSERT INTO t (a) SELECT fill(b) FROM u', 'SELECT public . total ( a ) FROM t']

t.test('a function that is not known to be PostgreSQL\'s own may do anything, and another may fit better later', async t => {
  for (const text of unknown) {
    if (!text.includes('"Lower"')) t.ok(altersMeaning(text), text)
    t.notOk(hasStablePlan(text), text)
  }
})

const altering = [
  'SET search_path = a', 'SET LOCAL search_path TO a', 'set local role a', 'SET ROLE a', 'RESET ROLE', 'RESET ALL', 'SET SESSION AUTHORIZATION a', 'SET LOCAL SCHEMA \'a\'', 'SET SCHEMA \'a\'',
  'SET TIME ZONE \'UTC\'', 'SET LOCAL TIMEZONE = \'UTC\'', 'SET DateStyle = ISO', 'SET NAMES \'latin1\'', 'SELECT set_config(\'role\', $1, true)', 'SELECT set_config($1, $2, true)', 'SELECT 1; SET LOCAL ROLE a',
  'CREATE TEMP TABLE a (b int)', 'CREATE TEMPORARY TABLE a AS SELECT 1', 'CREATE LOCAL TEMP TABLE a (b int) ON COMMIT DROP', 'CREATE OR REPLACE TEMP VIEW a AS SELECT 1', 'CREATE TEMP SEQUENCE a',
  'CREATE TABLE pg_temp.a (b int)', 'SELECT 1 AS a INTO TEMP b', 'SELECT 1 AS a INTO TEMPORARY TABLE b', 'DO $$ BEGIN END $$', 'CALL a()', 'EXECUTE a', 'DISCARD TEMP'
]
const notAltering = [
  'SET LOCAL statement_timeout = 1000', 'SET LOCAL app.tenant = \'a\'', 'SET TRANSACTION READ ONLY', 'SET CONSTRAINTS ALL DEFERRED', 'SELECT \'SET ROLE a\'', 'SELECT set_config(\'app.a\', $1, true), set_config(\'lock_timeout\', $2, true)',
  'UPDATE t SET role = $1', 'INSERT INTO temp (a) VALUES (1)', 'SELECT temp FROM t', 'CREATE TABLE a (b int)'
]

t.test('settings on which names and literals depend, temporary objects and code that may do anything are recognised', async t => {
  for (const text of altering) t.ok(altersMeaning(text), text)
  for (const text of notAltering) t.notOk(altersMeaning(text), text)
  for (const name of ['role', 'search_path', 'TimeZone', 'DateStyle']) t.ok(alterMeaning({ 'app.a': '1', [name]: 'x' }), name)
  t.notOk(alterMeaning({ 'app.a': '1', STATEMENT_TIMEOUT: '1', work_mem: '1MB' }))
})
