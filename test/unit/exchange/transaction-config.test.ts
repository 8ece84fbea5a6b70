import { inspect } from 'node:util'
import t from 'tap'
import { TransactionConfig, mergeSettings, settingStatement, timeouts } from '../../../lib/exchange/transaction-config.ts'
import type { IsolationLevel } from '../../../types/options.ts'

const isolations: [IsolationLevel | undefined, string][] = [
  [undefined, ''],
  ['read uncommitted', ' ISOLATION LEVEL READ UNCOMMITTED'],
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
        const { begin, losesNothing } = new TransactionConfig({ isolation, readOnly, deferrable }, {})
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
  t.strictSame(Object.keys(timeouts({})), [])
})

t.test('all settings go in one statement, as parameters, local to the transaction', async t => {
  const from = new TransactionConfig({ statementTimeout: 5 }, { 'app.tenant': "a'b" })
  const statement = settingStatement(from, {}, { role: 'reader' })!
  t.equal(statement.text, 'SELECT set_config($1, $2, true), set_config($3, $4, true), set_config($5, $6, true)')
  t.same(statement.values, ['statement_timeout', '5', 'app.tenant', "a'b", 'role', 'reader'])
  t.equal(statement.describes, false)
})

t.test('a timeout that the connection has by its startup packet is not sent again; another value is', async t => {
  const from = new TransactionConfig({ statementTimeout: 5 }, {})
  t.equal(settingStatement(from, { statement_timeout: '5' }), null)
  t.same(settingStatement(from, { statement_timeout: '6' })!.values, ['statement_timeout', '5'])
})

t.test('what Object.prototype holds is no setting, and no setting that a connection has', async t => {
  const prototype = Object.prototype as Record<string, unknown>
  prototype['app.tenant'] = 'polluted'
  prototype.statement_timeout = '5'
  t.teardown(() => {
    delete prototype['app.tenant']
    delete prototype.statement_timeout
  })
  t.same(settingStatement(new TransactionConfig({ statementTimeout: 5 }, mergeSettings()), mergeSettings())!.values, ['statement_timeout', '5'])
})

t.test('the values of settings are not shown by inspecting what holds them', async t => {
  const from = new TransactionConfig({}, mergeSettings({ 'app.tenant': 'secret' }))
  t.notMatch(inspect(from, { depth: 9, showHidden: true }), 'secret')
  t.notMatch(JSON.stringify(from), 'secret')
})
