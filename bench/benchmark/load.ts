// What sends the requests, in a process of its own.
import autocannon from 'autocannon'
import type { Client, Options } from 'autocannon'
import { type WorkloadName, workloads } from './workloads.ts'

export interface Order {
  /** Of the app. */
  url: string
  workload: WorkloadName
  headers: Record<string, string>
  connections: number
  /** Milliseconds that are not measured, and milliseconds that are. */
  warmUp: number
  duration: number
}

/** What is said: that measuring begins, that it ends, and then, when every request is answered, the report. */
export type Report =
  | { phase: 'begins' | 'ends' }
  | { phase: 'done', failures: string[], answered: number, perSecond: number, p50: number, p99: number }

process.on('message', (order: Order) => fire(order, (report) => process.send!(report)))
process.on('disconnect', () => process.exit())
process.send!('ready')

/**
 * Every answer's status is looked at, and the body of each so manieth: to read it costs as much as to send a request.
 */
const sample = 50

function fire ({ url, workload, headers, connections, warmUp, duration }: Order, say: (report: Report) => void): void {
  const { method, path, status, right } = workloads[workload]
  const clients: (Client & { reqsMade: number, responseMax?: number })[] = []
  const failures = new Map<string, number>()
  const fail = (reason: string): unknown => failures.set(reason, (failures.get(reason) ?? 0) + 1)
  const times: number[] = []
  let answered = 0
  let bodies = 0
  let measuring = false
  const options: Options & { sampleInt: number } = {
    url: url + path,
    method,
    headers,
    connections,
    // Ended by hand.
    duration: 3600,
    sampleInt: 20,
    verifyBody: (body) => {
      if (bodies++ % sample === 0 && !isRight(right, String(body))) fail(`wrong answer ${body}`)
      return true
    },
    setupClient: (client) => { clients.push(client as typeof clients[number]) }
  }
  let perSecond = 0
  const run = autocannon(options, (error) => {
    if (error != null) fail(String(error))
    times.sort((a, b) => a - b)
    const part = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? NaN
    say({
      phase: 'done',
      failures: [...failures].map(([reason, count]) => `${count} × ${reason}`),
      answered,
      perSecond,
      p50: part(0.5),
      p99: part(0.99)
    })
  })
  // autocannon's own histogram knows whole milliseconds only.
  run.on('response', (_client: unknown, statusCode: number, _bytes: number, milliseconds: number) => {
    answered++
    if (statusCode !== status) fail(`status ${statusCode}`)
    if (measuring) times.push(milliseconds)
  })
  run.on('reqError', (error: Error) => fail(error.message))
  setTimeout(() => {
    measuring = true
    say({ phase: 'begins' })
    const start = performance.now()
    setTimeout(() => {
      measuring = false
      perSecond = times.length / (performance.now() - start) * 1000
      say({ phase: 'ends' })
      // Each client waits for its last answer: requests that are dropped would be work for nobody, which others
      // then wait for.
      for (const client of clients) client.responseMax = client.reqsMade
    }, duration)
  }, warmUp)
}

function isRight (right: (body: any) => boolean, body: string): boolean {
  try {
    return right(JSON.parse(body))
  } catch {
    return false
  }
}
