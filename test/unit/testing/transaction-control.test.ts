import t from 'tap'
import { controlledStatements, controlOf, dropsTables } from '../../../lib/testing/transaction-control.ts'

t.test('transaction control is recognised in every form that PostgreSQL accepts', async (t) => {
  const begin = (readOnly?: boolean) => ({ kind: 'begin', tag: 'BEGIN', readOnly })
  for (const [text, control] of [
    ['BEGIN', begin()],
    ['begin work read only', begin(true)],
    ['/* a */ BEGIN -- b\n TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE;', begin(false)],
    ['START TRANSACTION READ ONLY', { kind: 'begin', tag: 'START TRANSACTION', readOnly: true }],
    ['COMMIT', { kind: 'commit', chain: false }],
    ['END TRANSACTION AND NO CHAIN', { kind: 'commit', chain: false }],
    ['COMMIT AND CHAIN', { kind: 'commit', chain: true }],
    ['ROLLBACK', { kind: 'rollback', chain: false }],
    ['abort work', { kind: 'rollback', chain: false }],
    ['PREPARE TRANSACTION \'x\'', { kind: 'prepare' }],
    ['DISCARD ALL', { kind: 'discard' }],
    ['SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', { kind: 'modes', rest: null }],
    ['set local transaction isolation level repeatable read, read only', { kind: 'modes', rest: 'SET TRANSACTION READ ONLY' }],
    ['SET transaction_isolation = \'serializable\'', { kind: 'modes', rest: null }],
    ['SET TRANSACTION NOT DEFERRABLE', { kind: 'modes', rest: null }]
  ] as const) t.same(controlOf(text), control, text)
})

t.test('everything else runs as it is', async (t) => {
  for (const text of [
    'SELECT 1', '', 'SELECT \'COMMIT\'', 'SELECT CASE WHEN true THEN 1 END', 'SAVEPOINT a', 'RELEASE a', 'ROLLBACK TO a', 'ROLLBACK WORK TO SAVEPOINT a',
    'COMMIT PREPARED \'x\'', 'ROLLBACK PREPARED \'x\'', 'PREPARE a AS SELECT 1', 'SET TRANSACTION READ ONLY', 'SET search_path = a', 'DISCARD PLANS',
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', 'DO $$ BEGIN NULL; END $$', 'CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END'
  ]) {
    t.equal(controlOf(text), null, text)
    t.equal(controlledStatements(text), null, text)
  }
})

t.test('a text of several statements is split only if one of them is transaction control', async (t) => {
  t.equal(controlledStatements('SELECT 1; SELECT \'; COMMIT;\''), null)
  const statements = controlledStatements('BEGIN; INSERT INTO a VALUES (\';\'); COMMIT; SELECT 1')!
  t.same(statements.map(({ control }) => control?.kind ?? null), ['begin', null, 'commit', null])
  t.match(statements[1]!.text, /^\s*INSERT INTO a VALUES \(';'\)$/)
})

t.test('temporary tables that COMMIT drops are noticed', async (t) => {
  t.ok(dropsTables('CREATE TEMP TABLE a (b int) ON COMMIT\nDROP'))
  t.notOk(dropsTables('CREATE TEMP TABLE a (b int)'))
})
