import t from 'tap'
import { moves, Progress } from '../../../lib/exchange/states.ts'
import type { SessionState } from '../../../types/session.ts'

const states = Object.keys(moves) as SessionState[]

/** A way from idle to each state, by allowed moves alone. */
const ways: Record<SessionState, SessionState[]> = {
  idle: [],
  opening: ['opening'],
  active: ['opening', 'active'],
  failed: ['opening', 'failed'],
  settling: ['opening', 'settling'],
  closed: ['closed']
}

const allowed = new Set([
  'idle opening', 'idle closed',
  'opening active', 'opening failed', 'opening settling',
  'active failed', 'active settling',
  'failed active', 'failed settling',
  'settling idle', 'settling closed'
])

function progressAt (state: SessionState): Progress {
  const progress = new Progress()
  for (const next of ways[state]) progress.to(next)
  return progress
}

t.test('a session begins without a connection', async t => {
  t.equal(new Progress().state, 'idle')
})

t.test('the six states are those that users see', async t => {
  t.same(states.sort(), ['active', 'closed', 'failed', 'idle', 'opening', 'settling'])
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
