import t from 'tap'
import { beginning, readSettings, settingStatement, timeouts } from '../../../lib/session/settings.ts'
import type { IsolationLevel } from '../../../types/options.ts'

const isolations: [IsolationLevel | undefined, string][] = [
  [undefined, ''],
  ['read committed', ' ISOLATION LEVEL READ COMMITTED'],
  ['repeatable read', ' ISOLATION LEVEL REPEATABLE READ'],
  ['serializable', ' ISOLATION LEVEL SERIALIZABLE']
]
const accesses: [boolean | undefined, string][] = [[undefined, ''], [true, ' READ ONLY'], [false, ' READ WRITE']]
const deferrables: [boolean | undefined, string][] = [[undefined, ''], [true, ' DEFERRABLE'], [false, '']]

for (const [isolation, level] of isolations) {
  for (const [readOnly, access] of accesses) {
    for (const [deferrable, wait] of deferrables) {
      const text = `BEGIN${level}${access}${wait}`
      t.test(`isolation ${isolation}, readOnly ${readOnly}, deferrable ${deferrable}: ${text}`, async t => {
        const { begin, losesNothing } = beginning({ isolation, readOnly, deferrable }, {})
        t.equal(begin, text)
        t.equal(losesNothing, readOnly === true && isolation !== 'serializable', 'an answer waits for COMMIT unless it can lose nothing')
      })
    }
  }
}

t.test('timeouts go to the settings that PostgreSQL has for them, in milliseconds', async t => {
  t.same(timeouts({ statementTimeout: 1, lockTimeout: 2, idleInTransactionTimeout: 3, transactionTimeout: 0 }), {
    statement_timeout: '1', lock_timeout: '2', idle_in_transaction_session_timeout: '3', transaction_timeout: '0'
  })
  t.same(timeouts({}), {})
})

t.test('settings are strings, numbers and booleans; the role is one of them', async t => {
  t.same(readSettings({ 'app.tenant': 'a', 'app.level': 7, 'app.on': true, search_path: '' }, 'reader'), {
    'app.tenant': 'a', 'app.level': '7', 'app.on': 'true', search_path: '', role: 'reader'
  })
  t.same(readSettings(undefined, undefined), {})
})

t.test('settings that are no object are refused', async t => {
  for (const [settings, came] of [[null, 'null'], [1, 'number'], ['a=b', 'string'], [['a'], 'an array'], [Promise, 'function']] as const) {
    t.throws(() => readSettings(settings, undefined), { code: 'FST_PG_SCOPE_OPTIONS', details: new RegExp(`${came} came`) })
  }
})

t.test('a name that is no name is refused, and shown', async t => {
  for (const name of ['', ' ', 'a b', 'app.', '.tenant', 'a;b', "a'b", '1a', 'app..x', 'a\0', 'a\n']) {
    t.throws(() => readSettings({ [name]: '1' }, undefined), { code: 'FST_PG_SCOPE_OPTIONS', details: /no name of a setting/ }, JSON.stringify(name))
  }
})

t.test('a value that is none is refused, and its content not shown', async t => {
  for (const value of [null, undefined, {}, ['secret'], NaN, Infinity, Symbol('secret'), 10n]) {
    t.throws(() => readSettings({ 'app.a': value }, undefined), { code: 'FST_PG_SCOPE_OPTIONS', details: /^settings\.app\.a: expected (?!.*secret)/ })
  }
})

t.test('a zero byte in a value or a role is refused: PostgreSQL cannot take it', async t => {
  t.throws(() => readSettings({ 'app.a': 'x\0y' }, undefined), { code: 'FST_PG_SCOPE_OPTIONS', details: /^settings\.app\.a: / })
  t.throws(() => readSettings(undefined, 'x\0y'), { code: 'FST_PG_SCOPE_OPTIONS', details: /^role: / })
})

t.test('a role is a name', async t => {
  for (const role of [null, '', 1, {}]) t.throws(() => readSettings({}, role), { code: 'FST_PG_SCOPE_OPTIONS', details: /^role: / })
})

t.test('all settings go in one statement, as parameters, local to the transaction', async t => {
  const from = beginning({ statementTimeout: 5 }, { 'app.tenant': "a'b" })
  const statement = settingStatement(from, {}, { role: 'reader' })!
  t.equal(statement.text, 'SELECT set_config($1, $2, true), set_config($3, $4, true), set_config($5, $6, true)')
  t.same(statement.values, ['statement_timeout', '5', 'app.tenant', "a'b", 'role', 'reader'])
  t.equal(statement.describes, false)
})

t.test('a timeout that the connection has by its startup packet is not sent again; another value is', async t => {
  const from = beginning({ statementTimeout: 5 }, {})
  t.equal(settingStatement(from, { statement_timeout: '5' }), null)
  t.same(settingStatement(from, { statement_timeout: '6' })!.values, ['statement_timeout', '5'])
})
