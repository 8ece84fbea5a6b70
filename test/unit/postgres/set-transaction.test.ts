import t from 'tap'
import { knownText } from '../../../lib/exchange/statement-text.ts'

const first = [
  'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'set transaction read only', 'SET TRANSACTION NOT DEFERRABLE', 'SET TRANSACTION DEFERRABLE;', "SET TRANSACTION SNAPSHOT '1'",
  'SET LOCAL TRANSACTION READ WRITE', "SET transaction_isolation = 'serializable'", 'SET LOCAL transaction_read_only TO on', 'SET SESSION transaction_deferrable=on',
  'SET LOCAL "transaction_read_only" = off', ' -- a; b\n SET/* ; */TRANSACTION\tREAD ONLY; -- done;'
]
const others = [
  'SELECT 1', 'SET LOCAL app.tenant = 1', 'SET transaction.read = 1', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', 'SHOW transaction_isolation', "SET default_transaction_isolation = 'serializable'",
  'SET CONSTRAINTS ALL DEFERRED', 'SET TRANSACTION READ ONLY; DELETE FROM a', 'DELETE FROM a; SET TRANSACTION READ ONLY', '/* /* */ SET TRANSACTION READ ONLY */ DELETE FROM a',
  '-- \rUPDATE a\nSET transaction_isolation = 1', '-- \rUPDATE a -- \nSET transaction_isolation = 1', "SELECT 'a\\'; SET TRANSACTION READ ONLY'", 'UPDATE a SET transaction_isolation = 1', 'SET transaction_isolation.a = 1',
  'SET LOCAL transaction_timeout = 1', '(SET TRANSACTION READ ONLY)'
]

t.test('SET TRANSACTION by itself goes first, by the extended protocol', async (t) => {
  for (const text of first) t.match(knownText(text), { goesFirst: true, changesMode: true, kind: 'plain' }, text)
})

t.test('nothing else goes first', async (t) => {
  for (const text of others) t.equal(knownText(text).goesFirst, false, text)
})

t.test('a transaction may be another one behind any text that holds it', async (t) => {
  for (const text of ['SELECT 1; SET TRANSACTION READ WRITE', 'SET TRANSACTION READ WRITE; DELETE FROM a', 'SET -- a\rTRANSACTION READ WRITE']) t.ok(knownText(text).changesMode, text)
  for (const text of ['SELECT * FROM transaction', 'SET LOCAL work_mem = 1', 'SELECT a FROM set']) t.notOk(knownText(text).changesMode, text)
})

t.test('a long text is looked at in no time', async (t) => {
  for (const part of [' ', '--', '-- \n', '/*', '/**/', '*/', 'set ', 'set transaction ', 'set/**/']) t.equal(knownText(`${part.repeat(100000)}x transaction_ set`).goesFirst, false, part)
})
