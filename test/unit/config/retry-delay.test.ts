import t from 'tap'
import { delayAfter, retryPolicyOf } from '../../../lib/config/retry-policy.ts'
import { conflictIn } from '../../../lib/postgres/sqlstate.ts'

t.test('the longest delay doubles with each attempt up to maxDelay, and every delay up to it is possible', async (t) => {
  const policy = retryPolicyOf({ attempts: 100, minDelay: 10, maxDelay: 100 }, '')!
  for (const [attempt, longest] of [[1, 10], [2, 20], [3, 40], [4, 80], [5, 100], [99, 100]] as const) {
    const delays = Array.from({ length: 500 }, () => delayAfter(policy, attempt))
    t.ok(delays.every((delay) => delay >= 0 && delay <= longest))
    t.ok(Math.max(...delays) > longest * 0.8 && Math.min(...delays) < longest * 0.2, `attempt ${attempt}`)
  }
})

t.test('a conflict is found behind other errors, and nowhere else', async (t) => {
  const wrap = (cause: unknown): Error => new Error('wrapped', { cause })
  t.equal(conflictIn({ code: '40001' }), '40001')
  t.equal(conflictIn(wrap(wrap({ code: '40P01' }))), '40P01')
  const circle = wrap(null)
  circle.cause = circle
  for (const other of [null, undefined, '40001', 40001, wrap('40001'), wrap({ code: '40003' }), { code: 40001 }, circle]) {
    t.equal(conflictIn(other), null)
  }
})

t.test('the longest first delay is 20 ms, or the longest of all where that is shorter; no delay is above a second', async (t) => {
  const delays = (retry: Parameters<typeof retryPolicyOf>[0]): (number | undefined)[] => {
    const policy = retryPolicyOf(retry, '')
    return [policy?.attempts, policy?.minDelay, policy?.maxDelay]
  }
  t.same(delays({}), [3, 20, 1000])
  t.same(delays(7), [7, 20, 1000])
  t.same(delays({ minDelay: undefined, maxDelay: undefined }), [3, 20, 1000])
  t.same(delays({ maxDelay: 5 }), [3, 5, 5])
  t.same(delays({ maxDelay: 0 }), [3, 0, 0])
  t.same(delays({ maxDelay: 200 }), [3, 20, 200])
  t.same(delays({ minDelay: 0 }), [3, 0, 1000])
  t.same(delays({ minDelay: 3000 }), [3, 3000, 3000])
})
