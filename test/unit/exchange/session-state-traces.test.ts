import t from 'tap'
import * as bench from '../../../harness/workload-statements.ts'
import { tracesOf } from '../../../lib/exchange/session-state-traces.ts'

const nothing = [
  bench.read, bench.update, bench.insert, bench.readAsUser,
  'SELECT 1', "SELECT set_config('a.b', $1, true)", "SELECT set_config('a.b', $1, is_local => true)", "SET LOCAL a.b = '1'",
  'SET TRANSACTION READ ONLY', 'SET CONSTRAINTS ALL DEFERRED', 'CREATE TEMP TABLE t (id int) ON COMMIT DROP',
  'SELECT pg_advisory_xact_lock(1)', 'UPDATE t SET a = 1', "SELECT 'SET x; LISTEN y; f(1)'", 'SELECT 1 -- SET x\n', 'RESET work_mem', 'DISCARD ALL',
  'INSERT INTO t (a, b) VALUES (1, now()) ON CONFLICT (a) DO UPDATE SET b = excluded.b', 'NOTIFY news'
]

t.test('what leaves nothing behind is not reset', async t => {
  for (const text of nothing) t.equal(tracesOf(text), null, text)
})

const state = [
  "SET a.b = '1'", 'set session work_mem = 1', 'SET ROLE other', 'SET SESSION AUTHORIZATION other', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
  '/* x */ -- y\n SET a.b TO 1', 'SELECT 1; SET a.b TO 1', "SELECT set_config('a.b', '1', false)", "SELECT set_config('a.b', '1', $1)",
  "SELECT \"set_config\"('a.b', '1', 1 = 0)", "SELECT set_config('a', '1', true), set_config('b', '1', 'f')", 'LISTEN news', 'UNLISTEN *',
  'SELECT pg_advisory_lock(1)', 'SELECT pg_catalog.pg_try_advisory_lock_shared(1, 2)', 'PREPARE p AS SELECT 1', 'CREATE TEMP TABLE t (id int)',
  'CREATE TEMPORARY TABLE t AS SELECT 1', 'CREATE TABLE pg_temp.t (id int)', 'CREATE OR REPLACE TEMP VIEW v AS SELECT 1', 'CREATE TEMP SEQUENCE s',
  'SELECT 1 AS id INTO TEMP t', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'SET LOCAL search_path = pg_temp', "DO $$ BEGIN EXECUTE 'SET a.b = 1'; END $$"
]

t.test('what leaves state behind is', async t => {
  for (const text of state) t.equal(tracesOf(text)?.state, true, text)
})

t.test('functions that are not PostgreSQL\'s own are named', async t => {
  const calls: [text: string, ...names: string[]][] = [
    ['SELECT f(1), now()', 'f'], ['SELECT * FROM app.Leaves ()', 'leaves'], ['CALL "p"(1)', 'p'], ['SELECT "Odd name"(1)', ''],
    ['WITH a (x) AS (SELECT g(1)) SELECT f(x) FROM a AS b (x)', 'g', 'f']
  ]
  for (const [text, ...names] of calls) t.same(tracesOf(text), { state: false, calls: names, defines: false }, text)
})

t.test('a definition may add a function or something that calls one', async t => {
  const defining = [
    'CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()', 'CREATE OR REPLACE VIEW v AS SELECT 1', 'CREATE EXTENSION x',
    'ALTER TABLE t ENABLE TRIGGER a', "CREATE FUNCTION f () RETURNS int LANGUAGE sql AS 'SELECT 1'", 'DO $$ BEGIN END $$'
  ]
  for (const text of defining) t.equal(tracesOf(text)?.defines, true, text)
  for (const text of ['CREATE INDEX ON t (a)', 'CREATE ROLE r', 'ALTER SYSTEM SET a = 1']) t.not(tracesOf(text)?.defines, true, text)
})
