import t from 'tap'
import { operationOf, sanitized, summaryOf } from '../../lib/telemetry/query-text.ts'

t.test('values in a text without parameters are replaced', async (t) => {
  t.equal(sanitized("SELECT * FROM t1 WHERE a = 'it''s' AND b = 12.5 AND c2 = -3"), 'SELECT * FROM t1 WHERE a = ? AND b = ? AND c2 = -?')
  t.equal(sanitized('SELECT $$secret$$, $tag$other$tag$'), 'SELECT ?, ?')
  t.equal(sanitized("SELECT E'a\\'b', \"col 1\""), 'SELECT ?, "col 1"')
  t.equal(sanitized("SELECT * FROM t WHERE a = $1 AND kind = 'x'"), "SELECT * FROM t WHERE a = $1 AND kind = 'x'")
})

t.test('a summary has the operation and the first table', async (t) => {
  for (const [text, summary] of Object.entries({
    'select * from accounts a': 'SELECT accounts',
    '-- why\n insert into "my table" values (1)': 'INSERT "my table"',
    '/* x */ UPDATE only app.accounts SET a = 1': 'UPDATE app.accounts',
    'DELETE FROM notes': 'DELETE notes',
    'SELECT 1': 'SELECT',
    'WITH a AS (SELECT 1) SELECT * FROM a': 'WITH',
    '': 'QUERY'
  })) t.equal(summaryOf(text, operationOf(text)), summary)
})
