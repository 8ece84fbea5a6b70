// A TCP proxy that delays, in a process of its own.
import { createServer, type AddressInfo, type Socket, connect } from 'node:net'

export interface Delay {
  host: string
  port: number
  /** Milliseconds, one way. */
  delay: number
}

/**
 * Longest nap. Milliseconds: what arrives meanwhile is noticed by so much late, and what is due leaves by so much
 * late.
 */
const longestNap = 0.1

/** What crossing it takes without any delay: to notice, to wake up, to write. Milliseconds. */
const ownTime = 0.08

const { host, port, delay } = JSON.parse(process.argv[2]!) as Delay
const sleeper = new Int32Array(new SharedArrayBuffer(4))

/** All of them wait equally long, so that the first is always the next, whichever connection it belongs to. */
let waiting: { due: number, deliver: () => void }[] = []
let delivered = 0
let napped = 0

function enqueue (deliver: () => void): void {
  // It arrived at some time during the last nap: on average in the middle of it.
  waiting.push({ due: performance.now() - napped / 2 + delay - ownTime, deliver })
  if (waiting.length - delivered === 1) setImmediate(tick)
}

/**
 * Timers count in whole milliseconds, as much as the delay itself; short naps between two looks at the sockets are
 * exact enough.
 */
function tick (): void {
  let now = performance.now()
  while (delivered < waiting.length && waiting[delivered]!.due <= now) waiting[delivered++]!.deliver()
  if (delivered === waiting.length) {
    waiting = []
    delivered = 0
    napped = 0
    return
  }
  if (delivered > 1000) {
    waiting = waiting.slice(delivered)
    delivered = 0
  }
  now = performance.now()
  const nap = Math.min(waiting[delivered]!.due - now, longestNap)
  if (nap > 0) Atomics.wait(sleeper, 0, 0, nap)
  napped = performance.now() - now
  setImmediate(tick)
}

function pipe (source: Socket, target: Socket): void {
  source.on('data', (chunk) => enqueue(() => { if (target.writable) target.write(chunk) }))
  source.on('end', () => enqueue(() => target.end()))
  source.on('error', () => enqueue(() => target.destroy()))
  source.on('close', () => enqueue(() => target.destroy()))
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const upstream = connect({ host, port, noDelay: true, allowHalfOpen: true })
  pipe(client, upstream)
  pipe(upstream, client)
})
server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
process.on('disconnect', () => process.exit())
