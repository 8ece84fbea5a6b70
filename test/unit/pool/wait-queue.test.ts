import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { AcquireRequest } from '../../../lib/pool/wait-queue.ts'
import { WaitQueue } from '../../../lib/pool/wait-queue.ts'

type Named = AcquireRequest & { name: number }
const waiter = (name: number): Named => ({
  name,
  requireNew: false,
  exclusive: false,
  owner: { isClosed: false },
  context: null,
  label: undefined,
  entry: null,
  granted () {},
  refused () {}
})

function setUp (t: Test, timeout = 60000) {
  const expired: number[] = []
  const queue = new WaitQueue(timeout, (waiter) => expired.push((waiter as Named).name))
  t.teardown(() => queue.stop())
  const drain = (): number[] => {
    const names: number[] = []
    for (let next = queue.shift(); next !== null; next = queue.shift()) names.push((next as Named).name)
    return names
  }
  return { queue, expired, drain }
}

t.test('the first to come is the first to be served', async (t) => {
  const { queue, drain } = setUp(t)
  const waiters = [0, 1, 2].map(waiter)
  for (const each of waiters) queue.push(each)
  t.equal(queue.length, 3)
  t.equal(queue.peek(), waiters[0], 'looking does not serve')
  t.same(drain(), [0, 1, 2])
  t.equal(queue.length, 0)
})

t.test('an empty queue has no entry to serve, to show or to remove', async (t) => {
  const { queue } = setUp(t)
  t.equal(queue.shift(), null)
  t.equal(queue.peek(), null)
  t.equal(queue.remove(waiter(0)), false)
  t.equal(queue.length, 0)
})

for (const [where, index, left] of [['front', 0, [1, 2]], ['middle', 1, [0, 2]], ['end', 2, [0, 1]]] as const) {
  t.test(`leaving from the ${where} keeps the others in order`, async (t) => {
    const { queue, drain } = setUp(t)
    const waiters = [0, 1, 2].map(waiter)
    for (const each of waiters) queue.push(each)
    t.equal(queue.remove(waiters[index]!), true)
    t.equal(queue.remove(waiters[index]!), false, 'a second time there is nothing to leave')
    t.equal(queue.length, 2)
    queue.push(waiter(3))
    t.same(drain(), [...left, 3])
  })
}

t.test('the only waiter can leave, and the queue works on', async (t) => {
  const { queue, drain } = setUp(t)
  const only = waiter(0)
  queue.push(only)
  t.equal(queue.remove(only), true)
  t.equal(queue.peek(), null)
  queue.push(waiter(1))
  t.same(drain(), [1])
})

t.test('an entry that was served cannot leave any more, and may be queued again', async (t) => {
  const { queue, drain } = setUp(t)
  const first = waiter(0)
  queue.push(first)
  queue.shift()
  t.equal(queue.remove(first), false)
  queue.push(waiter(1))
  queue.push(first)
  t.same(drain(), [1, 0])
})

t.test('ten thousand wait: every second one leaves, from the inside out, and the rest are served in order', async (t) => {
  const { queue, drain } = setUp(t)
  const waiters = Array.from({ length: 10000 }, (_, name) => waiter(name))
  for (const each of waiters) queue.push(each)
  t.equal(queue.length, 10000)
  const leaving = waiters.filter(({ name }) => name % 2 === 1).sort(
    (a, b) => Math.abs(a.name - 5000) - Math.abs(b.name - 5000)
  )
  t.equal(leaving.filter((each) => queue.remove(each)).length, 5000)
  t.equal(queue.length, 5000)
  t.same(drain(), Array.from({ length: 5000 }, (_, i) => 2 * i))
})

t.test('every waiter expires when its time is up, in order, and not before', async (t) => {
  const { queue, expired } = setUp(t, 500)
  const start = performance.now()
  queue.push(waiter(0))
  queue.push(waiter(1))
  await sleep(300)
  queue.push(waiter(2))
  t.same(expired, [])
  while (expired.length < 2) await sleep(1)
  t.ok(performance.now() - start >= 499)
  t.same(expired, [0, 1], 'the one that came later has time left')
  while (expired.length < 3) await sleep(1)
  t.ok(performance.now() - start >= 798)
  t.equal(queue.length, 0)
})

t.test('an entry that was served or has left does not expire', async (t) => {
  const { queue, expired } = setUp(t, 30)
  const leaver = waiter(1)
  queue.push(waiter(0))
  queue.push(leaver)
  queue.push(waiter(2))
  queue.shift()
  queue.remove(leaver)
  await sleep(100)
  t.same(expired, [2])
})

t.test('after stop() no timer keeps the process alive', async (t) => {
  const { queue } = setUp(t, 60000)
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  queue.push(waiter(0))
  queue.push(waiter(1))
  t.equal(timers(), before + 1, 'one timer serves all')
  queue.stop()
  t.equal(timers(), before)
})
