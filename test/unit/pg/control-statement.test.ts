import t from 'tap'
import { leavesOpen, placeSteps, stepsOf } from '../../../lib/pg/control-statement.ts'
import { splitStatements } from '../../../lib/postgres/statement-words.ts'

t.test('a text without transaction control is sent as it is', async (t) => {
  for (const text of [
    'SELECT 1', 'SELECT 1; SELECT 2', "SELECT 'a; COMMIT'", 'SELECT $$; BEGIN; $$', 'SELECT 1 -- ; ROLLBACK', '', ';',
    'SELECT CASE WHEN true THEN 1 END', 'SET search_path TO a', "SET TRANSACTION SNAPSHOT '1'", 'SELECT begin FROM commit',
    'CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END', 'DO $$ BEGIN NULL; END $$'
  ]) t.equal(stepsOf(text), null, text)
})

t.test('each command is recognised, with its modes and names', async (t) => {
  const kinds: [string, object][] = [
    ['BEGIN', { kind: 'begin', modes: { isolation: undefined, readOnly: undefined, deferrable: undefined } }],
    ['/* a */ start transaction isolation level\n repeatable read, read only', { kind: 'begin', modes: { isolation: 'repeatable read', readOnly: true } }],
    ['BEGIN READ WRITE NOT DEFERRABLE', { kind: 'begin', modes: { readOnly: false, deferrable: false } }],
    ['SET TRANSACTION DEFERRABLE', { kind: 'set', modes: { deferrable: true } }],
    ['COMMIT', { kind: 'commit', chain: false }], ['end work and chain', { kind: 'commit', chain: true }],
    ['ROLLBACK AND NO CHAIN', { kind: 'rollback', chain: false }], ['Abort Transaction;', { kind: 'rollback', chain: false }],
    ['SAVEPOINT A$1', { kind: 'savepoint', name: 'a$1' }], ['RELEASE SAVEPOINT "A ""b"" ; c"', { kind: 'release', name: 'A "b" ; c' }],
    ['rollback to x -- the last', { kind: 'rollbackTo', name: 'x' }]
  ]
  for (const [text, step] of kinds) t.match(stepsOf(text), [step], text)
})

t.test('statements in a row stay one text, between those of transaction control', async (t) => {
  t.match(stepsOf("BEGIN; SELECT 1; SELECT ';'; SAVEPOINT s; SELECT 3; COMMIT; "), [
    { kind: 'begin' }, { text: " SELECT 1; SELECT ';'" }, { kind: 'savepoint' }, { text: ' SELECT 3' }, { kind: 'commit' }
  ])
})

t.test('what ends another transaction is no step', async (t) => {
  t.equal(stepsOf("COMMIT PREPARED 'a'"), null)
  t.equal(stepsOf("ROLLBACK PREPARED 'a'"), null)
})

t.test('whether a text leaves a transaction open is known before it is sent', async (t) => {
  for (const text of ['BEGIN; SELECT 1; COMMIT', 'BEGIN; SAVEPOINT s; ROLLBACK', 'SAVEPOINT s; SELECT 1; RELEASE s', 'COMMIT', 'COMMIT AND CHAIN']) {
    t.equal(leavesOpen(stepsOf(text)!), false, text)
  }
  for (const text of ['BEGIN', 'BEGIN; COMMIT; BEGIN', 'BEGIN; COMMIT AND CHAIN', 'SAVEPOINT s', 'BEGIN; SAVEPOINT s; RELEASE s', 'SAVEPOINT a; SAVEPOINT b; RELEASE b']) {
    t.equal(leavesOpen(stepsOf(text)!), true, text)
  }
})

t.test('statements in front of BEGIN, COMMIT and ROLLBACK are a transaction with them, as in PostgreSQL', async (t) => {
  const placed = (text: string, isOpen = false, needsBegin = true) => placeSteps(stepsOf(text)!, isOpen, needsBegin)
    .map(({ step, implicit, isRefused }) => [step.kind, implicit, isRefused && 'refused'].filter(Boolean).join(' ')).join('; ')
  t.equal(placed('SELECT 1; BEGIN; SELECT 2; COMMIT; SELECT 3'), 'plain begins; set belongs; plain; commit; plain')
  t.equal(placed('COMMIT; SELECT 1; BEGIN; SELECT 2', true), 'commit; plain begins; set belongs; plain')
  t.equal(placed('SELECT 1; ROLLBACK; SELECT 2; SET TRANSACTION READ ONLY'), 'plain begins; rollback; plain begins; set belongs; commit ends')
  t.equal(placed('SET TRANSACTION READ ONLY; SELECT 1'), 'set begins; plain belongs; commit ends')
  t.equal(placed('SET TRANSACTION READ ONLY; SELECT 1; COMMIT; SELECT 2'), 'set begins; plain belongs; commit; plain')
  t.equal(placed('SET TRANSACTION READ ONLY'), 'set')
  t.equal(placed('SAVEPOINT s; RELEASE s; SELECT 1; ROLLBACK', false, false), 'savepoint; release; plain begins; rollback')
  t.equal(placed('SELECT 1; COMMIT AND CHAIN; SELECT 2'), 'plain begins; commit belongs refused')
  t.equal(placed('SELECT 1; COMMIT AND CHAIN; SELECT 2', true), 'plain; commit; plain')
  t.equal(placed('SELECT 1; SAVEPOINT s; SELECT 2', false, false), 'plain begins; savepoint belongs refused')
  t.equal(placed('SAVEPOINT s; RELEASE s; SELECT 2'), 'savepoint refused')
  t.equal(placed('SAVEPOINT s; SELECT 2', false, false), 'savepoint; plain')
})

t.test('a text is split at semicolons that end a statement, and the body of BEGIN ATOMIC is not', async (t) => {
  const body = 'CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 1 END; SELECT 2; END'
  t.same(splitStatements(`SELECT ';'; ;${body}; SELECT 3 /* ; */`), ["SELECT ';'", body, ' SELECT 3 /* ; */'])
})
