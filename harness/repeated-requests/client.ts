import { setTimeout as sleep } from 'node:timers/promises'
import { openRequest } from '../http-client.ts'

export interface Transfer { id: string, from: number, to: number, amount: number }

export interface Answer {
  status: number
  body: string
  /** How often the request was sent. */
  sent: number
  replayed: boolean
}

/** How long a request may take before it is sent again. Milliseconds. */
const timeout = 10_000

/** What is no answer to a request with a key: it is sent again. 409 says that the first one is still in progress. */
const again = new Set([409, 500, 503, 504])

/** Sends a transfer with its key until there is an answer; null when it gave up. */
export async function transfer (port: number, body: Transfer, signal: AbortSignal): Promise<Answer | null> {
  const headers = { 'idempotency-key': `"${body.id}"` }
  for (let sent = 1; !signal.aborted; sent++) {
    const { socket, response: answered } = openRequest(port, { method: 'POST', path: '/transfers', headers, body })
    const timer = setTimeout(() => socket.destroy(), timeout)
    const response = await answered
    clearTimeout(timer)
    socket.destroy()
    if (response.complete && !again.has(response.status)) {
      const replayed = response.headers['idempotency-replayed'] === 'true'
      return { status: response.status, body: response.body, sent, replayed }
    }
    await sleep(Math.random() * Math.min(500, 20 * 2 ** sent))
  }
  return null
}
