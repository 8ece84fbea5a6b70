import { test } from 'tap'
import { waitFor } from '../../../harness/wait-for.ts'

test('returns the first truthy value', async t => {
  let calls = 0
  t.equal(await waitFor(() => ++calls > 2 && `call ${calls}`, { interval: 1 }), 'call 3')
})

test('takes an asynchronous function, and waits through its rejections', async t => {
  let calls = 0
  const value = await waitFor(async () => {
    if (++calls < 3) throw new Error('not yet')
    return calls
  }, { interval: 1 })
  t.equal(value, 3)
})

test('tells the last value when the time is up', async t => {
  await t.rejects(
    waitFor(() => 0, { timeout: 20, interval: 1, message: 'a row' }),
    { message: 'a row: not within 20 ms, last value: 0' }
  )
})

test('tells the last error when the time is up', async t => {
  await t.rejects(
    waitFor(() => { throw new Error('no such table') }, { timeout: 20, interval: 1 }),
    { message: /last error: Error: no such table/ }
  )
})

test('gives up on a call that never settles', async t => {
  await t.rejects(
    waitFor(() => new Promise(() => {}), { timeout: 20 }),
    { message: /no call has returned yet/ }
  )
})

test('a process that got no time from the machine is not held to the clock', async t => {
  let calls = 0
  const value = await waitFor(() => {
    if (++calls === 1) for (const until = performance.now() + 300; performance.now() < until;);
    return calls === 5 && calls
  }, { timeout: 150, interval: 1 })
  t.equal(value, 5)
})
