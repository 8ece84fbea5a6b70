import t from 'tap'
import { moves, Progress, type TransactionState } from '../../../lib/exchange/states.ts'

const states = Object.keys(moves) as TransactionState[]

/** A way from opening to each state, by allowed moves alone. */
const ways: Record<TransactionState, TransactionState[]> = {
  opening: [],
  active: ['active'],
  failed: ['failed'],
  settling: ['settling'],
  ended: ['settling', 'ended']
}

const allowed = new Set([
  'opening active', 'opening failed', 'opening settling',
  'active failed', 'active settling',
  'failed active', 'failed settling',
  'settling ended'
])

function progressAt (state: TransactionState): Progress {
  const progress = new Progress()
  for (const next of ways[state]) progress.to(next)
  return progress
}

t.test('a transaction begins while it waits for a connection', async t => {
  t.equal(new Progress().state, 'opening')
})

t.test('the states are those that the table knows', async t => {
  t.same(states.sort(), ['active', 'ended', 'failed', 'opening', 'settling'])
})

for (const from of states) {
  for (const to of states) {
    if (allowed.has(`${from} ${to}`)) {
      t.test(`${from} may become ${to}`, async t => {
        const progress = progressAt(from)
        progress.to(to)
        t.equal(progress.state, to)
      })
    } else {
      t.test(`${from} may not become ${to}, and stays what it is`, async t => {
        const progress = progressAt(from)
        t.throws(() => progress.to(to), { code: 'FST_PG_SCOPE_SESSION_STATE', details: new RegExp(`is ${from} cannot become ${to}`) })
        t.equal(progress.state, from)
      })
    }
  }
}
