// What sends the requests, in a process of its own.
import autocannon from 'autocannon'
import type { Client, Options } from 'autocannon'

export interface Order {
  url: string
  method: 'GET' | 'POST'
  headers: Record<string, string>
  /** The status that every answer has to have. */
  status: number
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

function fire ({ url, method, headers, status, connections, warmUp, duration }: Order, say: (report: Report) => void): void {
  const clients: (Client & { reqsMade: number, responseMax?: number })[] = []
  const failures = new Map<string, number>()
  const fail = (reason: string): unknown => failures.set(reason, (failures.get(reason) ?? 0) + 1)
  const times: number[] = []
  let answered = 0
  let measuring = false
  const options: Options & { sampleInt: number } = {
    url,
    method,
    headers,
    connections,
    // Ended by hand.
    duration: 3600,
    sampleInt: 20,
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
      // Each client waits for its last answer: requests that are dropped would be work for nobody, which others then wait for.
      for (const client of clients) client.responseMax = client.reqsMade
    }, duration)
  }, warmUp)
}
