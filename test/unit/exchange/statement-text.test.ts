import t from 'tap'
import { textKind } from '../../../lib/exchange/statement-text.ts'

const control = [
  'BEGIN', 'begin', 'Begin Isolation Level Serializable', 'START TRANSACTION', 'COMMIT', 'commit;', 'COMMIT AND CHAIN', 'END', 'ROLLBACK',
  'rollback to savepoint a', 'ABORT', 'SAVEPOINT a', 'RELEASE a', 'RELEASE SAVEPOINT a', "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'",
  "PREPARE TRANSACTION 'x'", "prepare\n transaction 'x'",
  '  \n\tCOMMIT', '-- a comment\nCOMMIT', '/* a comment */ COMMIT', '/* one */ -- two\n /* three */COMMIT', '(COMMIT', 'COMMIT/**/'
]

const plain = [
  'SELECT 1', 'select 1;', 'SELECT 1 ; \n', '', '   ', '-- only a comment', ';',
  'INSERT INTO a VALUES (1)', 'UPDATE a SET b = 1', 'DELETE FROM a', 'WITH a AS (SELECT 1) SELECT * FROM a', 'VALUES (1)', 'TABLE a', '(SELECT 1)',
  'SHOW all', 'SET LOCAL search_path = a', 'PREPARE a AS SELECT 1', 'EXPLAIN SELECT 1', 'CREATE TABLE a (b int)', 'CALL commit_all()',
  'SELECT \'COMMIT\'', '-- COMMIT\nSELECT 1', '/* COMMIT */ SELECT 1', 'beginning', 'commits', 'endless', 'savepoints', 'LISTEN a', 'SELECT 1 -- trailing'
]

const several = ['SELECT 1; SELECT 2', 'SELECT 1; SELECT 2;', 'SELECT \';\' AS a', 'SELECT 1; -- a comment', 'CREATE FUNCTION a() AS $$ BEGIN; END $$']

t.test('transaction control is recognised, whatever stands before it', async t => {
  for (const text of control) t.equal(textKind(text), 'transaction-control', JSON.stringify(text))
})

t.test('nothing else is taken for it, and a semicolon at the end makes no second statement', async t => {
  for (const text of plain) {
    t.equal(textKind(text), 'plain', JSON.stringify(text))
  }
})

t.test('a semicolon in the middle, in a string as well, makes a text that may hold several statements', async t => {
  for (const text of several) t.equal(textKind(text), 'several', JSON.stringify(text))
})

t.test('transaction control in front of others is still transaction control', async t => {
  t.equal(textKind('BEGIN; SELECT 1'), 'transaction-control')
  t.equal(textKind('; COMMIT'), 'several', 'behind others its tag gives it away')
})
