import t from 'tap'
import { readStatement } from '../../../lib/exchange/read-statement.ts'

const kinds: [unknown, string][] = [
  [undefined, 'undefined'], [null, 'null'], [1, 'a number'], [true, 'a boolean'], [['SELECT 1'], 'undefined'], [{}, 'undefined'],
  [{ text: 1 }, 'a number'], [{ text: null }, 'null'], [Symbol('x'), 'a symbol'], [() => 'SELECT 1', 'a function']
]

for (const [given, kind] of kinds) {
  t.test(`a text that is no string (${Array.isArray(given) ? 'an array' : typeof given}) is refused, and the error says what came`, async t => {
    t.throws(() => readStatement(given), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: new RegExp(`must be a string, got ${kind}`) })
  })
}

t.test('a zero byte in the text is refused', async t => {
  t.throws(() => readStatement('SELECT \0'), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /zero byte/ })
})

t.test('values that are no array are refused', async t => {
  for (const values of [1, 'a', {}, new Set([1]), false]) {
    t.throws(() => readStatement('SELECT $1', values), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /`values` must be an array/ })
    t.throws(() => readStatement({ text: 'SELECT $1', values }), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /`values` must be an array/ })
  }
})

t.test('the value of a parameter that cannot be converted is named by its place, and its content never shown', async t => {
  const secret: Record<string, unknown> = { card: '4111-1111', toString: () => '4111-1111' }
  secret.self = secret
  const itself = { toPostgres: () => itself, toString: () => '4111-1111' }
  for (const value of [secret, itself, [secret], { '4111-1111': secret, secret }]) {
    const error = thrownBy(() => readStatement('SELECT $1, $2', [1, value]))
    t.match(error, { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /\$2/ })
    t.notMatch(inspectAll(error), /4111/)
  }
})

t.test('what a value\'s own toPostgres() throws is the cause, worded by its author, and no part of the message', async t => {
  const thrown = new Error('no such currency')
  const error = thrownBy(() => readStatement('SELECT $1', [{ toPostgres () { throw thrown } }]))
  t.equal(error.cause, thrown)
  t.notMatch(error.message, /currency/)
})

t.test('a name of a prepared statement is at most 63 bytes, for PostgreSQL would cut it', async t => {
  t.equal(readStatement({ text: 'SELECT 1', name: 'x'.repeat(63) }).name, 'x'.repeat(63))
  for (const name of ['x'.repeat(64), 'é'.repeat(32), 1, {}]) {
    t.throws(() => readStatement({ text: 'SELECT 1', name }), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /63 bytes/ })
  }
})

t.test('an empty name is no name, as in pg', async t => {
  t.equal(readStatement({ text: 'SELECT 1', name: '' }).name, undefined)
})

t.test('a name with a zero byte is refused: it would end the name on the wire', async t => {
  t.throws(() => readStatement({ text: 'SELECT 1', name: 'a\0b' }), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
})

t.test('transaction control is refused, with what to call instead', async t => {
  t.throws(() => readStatement('  commit work'), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL', details: /^COMMIT .*commit\(\) and rollback\(\), and transaction\(fn\)/ })
  t.throws(() => readStatement({ text: 'SAVEPOINT a' }), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
})

t.test('values are converted as pg converts them, at once', async t => {
  const list = [1, 2]
  const date = new Date(0)
  const { values } = readStatement('SELECT $1, $2, $3, $4, $5, $6', [1, null, undefined, list, { a: 1 }, Buffer.from('x')])
  list.push(3)
  t.same(values, ['1', null, null, '{"1","2"}', '{"a":1}', Buffer.from('x')])
  t.match(readStatement('SELECT $1', [date]).values[0], /^(1970|1969)-/)
})

t.test('values of the call win over those of the object', async t => {
  t.same(readStatement({ text: 'SELECT $1', values: [1] }, [2]).values, ['2'])
  t.same(readStatement({ text: 'SELECT $1', values: [1] }).values, ['1'])
})

t.test('only a text without values and without a name may hold several statements', async t => {
  t.equal(readStatement('SELECT 1; SELECT 2').several, true)
  t.equal(readStatement('SELECT 1; SELECT 2', []).several, true)
  t.equal(readStatement('SELECT 1; SELECT $1', [1]).several, false)
  t.equal(readStatement({ text: 'SELECT 1; SELECT 2', name: 'a' }).several, false)
  t.equal(readStatement('SELECT 1;').several, false)
})

function thrownBy (fn: () => unknown): Error {
  try {
    fn()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

function inspectAll (error: Error): string {
  const cause = error.cause as Error | undefined
  return [error.message, error.stack, cause?.message, cause?.stack, JSON.stringify(error)].join('\n')
}
