import t from 'tap'
import { answerTimeoutOf, batchTimeout } from '../../../lib/exchange/answer-timeout.ts'
import { Statement } from '../../../lib/exchange/statement.ts'

const one = [new Statement('SELECT 1')]

t.test('behind a pooler that does not identify itself an answer is awaited for a minute, unless an option says otherwise', async (t) => {
  t.equal(batchTimeout(answerTimeoutOf({}), one, true), 60000)
  t.equal(batchTimeout(answerTimeoutOf({}), one, false), 0)
  t.equal(batchTimeout(answerTimeoutOf({ answerTimeout: 0 }), one, true), 0)
  t.equal(batchTimeout(answerTimeoutOf({ answerTimeout: 500 }), one, true), 500)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000 }), one, true), 11000)
  t.equal(batchTimeout(answerTimeoutOf({ transactionTimeout: 90000 }), one, true), 100000)
})
