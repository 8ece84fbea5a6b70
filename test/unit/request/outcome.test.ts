import t from 'tap'
import { outcomeOf, type Ending, type RequestOutcome } from '../../../lib/request/outcome.ts'

const plain: Ending = { status: 200, thrown: false, failed: false, rollbackOnly: false }
const never = () => { throw new Error('commitIf was asked although it has nothing to decide') }

/** Every combination with a success (200) and an error (409), and no rule of the user's. */
const table: [thrown: boolean, failed: boolean, rollbackOnly: boolean, success: RequestOutcome, error: RequestOutcome][] = [
  [false, false, false, 'commit', 'rollback'],
  [false, false, true, 'rollback', 'rollback'],
  [false, true, false, 'refuse', 'rollback'],
  [false, true, true, 'rollback', 'rollback'],
  [true, false, false, 'rollback', 'rollback'],
  [true, false, true, 'rollback', 'rollback'],
  [true, true, false, 'rollback', 'rollback'],
  [true, true, true, 'rollback', 'rollback']
]

t.test('the outcome of every way to end', async t => {
  for (const [thrown, failed, rollbackOnly, success, error] of table) {
    const facts = { thrown, failed, rollbackOnly }
    t.equal(outcomeOf({ status: 200, ...facts }), success, `200 ${JSON.stringify(facts)}`)
    t.equal(outcomeOf({ status: 409, ...facts }), error, `409 ${JSON.stringify(facts)}`)
  }
})

t.test('a status below 400 is a success', async t => {
  for (const status of [200, 201, 204, 302, 399]) t.equal(outcomeOf({ ...plain, status }), 'commit', String(status))
  for (const status of [400, 404, 500, 503]) t.equal(outcomeOf({ ...plain, status }), 'rollback', String(status))
})

t.test('commitIf decides instead of the status', async t => {
  t.equal(outcomeOf(plain, () => false), 'rollback')
  t.equal(outcomeOf(plain, () => true), 'commit')
  t.equal(outcomeOf({ ...plain, status: 422 }, () => true), 'commit')
  t.equal(outcomeOf({ ...plain, status: 422 }, () => false), 'rollback')
  t.equal(outcomeOf({ ...plain, status: 402, thrown: true }, () => true), 'commit', 'also for an error that was thrown and answered as one')
})

t.test('commitIf is not asked where nothing can be committed', async t => {
  t.equal(outcomeOf({ ...plain, rollbackOnly: true }, never), 'rollback')
  t.equal(outcomeOf({ ...plain, thrown: true }, never), 'rollback')
  t.equal(outcomeOf({ ...plain, failed: true }, never), 'refuse')
  t.equal(outcomeOf({ ...plain, failed: true, status: 500 }, never), 'rollback')
})

t.test('an error of commitIf leaves to the caller', async t => {
  t.throws(() => outcomeOf(plain, () => { throw new Error('a bug in the rule') }), { message: 'a bug in the rule' })
})
