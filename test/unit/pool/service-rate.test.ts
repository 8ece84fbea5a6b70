import t from 'tap'
import { ServiceRate } from '../../../lib/pool/service-rate.ts'

/** Serves so often, with that many milliseconds in between, and returns the time then. */
function serve (rate: ServiceRate, times: number, gap: number, from: number): number {
  for (let i = 0; i < times; i++) rate.served(100, from += gap)
  return from
}

t.test('nothing is known until every connection has been handed on once', (t) => {
  const rate = new ServiceRate(10, 0)
  t.equal(rate.waitBehind(1000), 0)
  const now = serve(rate, 10, 5, 1)
  t.equal(rate.waitBehind(1000), 0)
  rate.served(100, now + 5)
  t.equal(rate.waitBehind(99), 500)
  t.end()
})

t.test('nothing is known before the queue has been there for a while: the beginning of a burst is slow', (t) => {
  const rate = new ServiceRate(2, 100)
  let now = serve(rate, 5, 20, 1)
  t.equal(rate.waitBehind(1000), 0)
  now = serve(rate, 19, 1, now)
  t.equal(rate.waitBehind(1000), 0)
  serve(rate, 1, 1, now)
  const wait = rate.waitBehind(99)
  t.ok(wait > 300 && wait < 500, `the mean until then: ${Math.round(wait)} ms`)
  t.end()
})

t.test('an empty queue makes it unknown again: the rate of the pool is measured only while a request waits', (t) => {
  const rate = new ServiceRate(2, 0)
  const now = serve(rate, 20, 5, 1)
  rate.served(0, now + 5)
  t.equal(rate.waitBehind(10), 0)
  serve(rate, 3, 50, now + 10000)
  t.equal(rate.waitBehind(9), 500, 'and the pause before does not count')
  t.end()
})

t.test('connections that come back all at once are worth their mean', (t) => {
  for (const max of [1, 2, 10, 100]) {
    const rate = new ServiceRate(max, 0)
    let now = 1
    for (let round = 0; round < 30; round++) {
      serve(rate, max, 0, now)
      now += 1000
    }
    const wait = rate.waitBehind(max - 1)
    t.ok(wait > 600 && wait < 1400, `${max} connections, 1000 ms a round: ${Math.round(wait)} ms for a round`)
  }
  t.end()
})

t.test('a stall of the server rejects hardly any request', (t) => {
  for (const max of [1, 10, 100]) {
    const rate = new ServiceRate(max, 0)
    const now = serve(rate, 1000, 2, 1)
    rate.served(100, now + 30000)
    const wait = rate.waitBehind(99)
    t.ok(wait < 320, `${max} connections: 200 ms before the stall, ${Math.round(wait)} ms behind it`)
  }
  t.end()
})

t.test('a server that has become slow shows within a few rounds, and so does one that has become quick', (t) => {
  for (const max of [1, 10, 100]) {
    const rate = new ServiceRate(max, 0)
    let now = serve(rate, 1000, 1, 1)
    now = serve(rate, 12 * max + 40, 50, now)
    t.ok(rate.waitBehind(99) > 2500, `${max} connections, 5000 ms by now: ${Math.round(rate.waitBehind(99))} ms`)
    serve(rate, 20 * max + 160, 1, now)
    t.ok(rate.waitBehind(99) < 300, `${max} connections, 100 ms by now: ${Math.round(rate.waitBehind(99))} ms`)
  }
  t.end()
})

t.test('gaps too short to measure do not keep it from learning', (t) => {
  const rate = new ServiceRate(1, 0)
  const now = serve(rate, 100, 0, 1)
  serve(rate, 200, 10, now)
  t.ok(rate.waitBehind(9) > 50)
  t.end()
})
