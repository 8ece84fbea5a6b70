// Some runtimes have timers that are plain numbers, or handles without unref().
import t from 'tap'
import { LeakDetector } from '../../lib/pool/leak-detector.ts'
import type { Lease } from '../../lib/pool/lease.ts'
import { type AcquireRequest, WaitQueue } from '../../lib/pool/wait-queue.ts'
import { keepFromExit, letExit } from '../../lib/process-exit.ts'
import { StreamTimeout } from '../../lib/request/stream-timeout.ts'
import type { ManagedSession } from '../../lib/session/managed-session.ts'

/** As a number a timer can be cleared in Node, too. */
function withNumbers (fn: () => void): void {
  const { setTimeout } = globalThis
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) =>
    Number(setTimeout(...args))) as unknown as typeof setTimeout
  try {
    fn()
  } finally {
    globalThis.setTimeout = setTimeout
  }
}

t.test('a handle is released and held again; one that cannot be is left alone', async t => {
  const timer = setTimeout(() => {}, 60000)
  letExit(timer)
  t.equal(timer.hasRef(), false)
  keepFromExit(timer)
  t.equal(timer.hasRef(), true)
  clearTimeout(timer)
  for (const handle of [1, {}]) {
    t.doesNotThrow(() => letExit(handle))
    t.doesNotThrow(() => keepFromExit(handle))
  }
})

t.test('waiting for a connection works where a timer is a number', async t => {
  const waiter = { entry: null } as unknown as AcquireRequest
  const queue = new WaitQueue(60000, () => {})
  withNumbers(() => {
    for (let i = 0; i < 2; i++) {
      queue.push(waiter)
      t.equal(queue.shift(), waiter)
    }
    queue.stop()
  })
})

t.test('so do leak reports', async t => {
  const waiter = { label: { route: 'GET /', id: '1', timing: null, traceparent: null, hasOwnTrace: false } } as AcquireRequest
  const lease = {} as Lease
  await new Promise<void>((resolve) => {
    const watch = new LeakDetector(1, () => {
      watch.returned(lease)
      resolve()
    }, ({ route }) => t.equal(route, 'GET /'))
    withNumbers(() => {
      watch.requested(waiter)
      watch.granted(lease, waiter)
    })
  })
})

t.test('so does streamTimeout', async () => {
  withNumbers(() => new StreamTimeout({} as ManagedSession, 60000).clear())
})
