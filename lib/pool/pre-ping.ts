import type { Connection } from './connection.ts'

/** How long a reused connection may take to answer a ping. Milliseconds. */
const pingTimeout = 1000

/** Whether a reused connection is alive. @param acquireTimeout how long its waiter may wait, in milliseconds */
export async function answersPing (connection: Connection, acquireTimeout: number): Promise<boolean> {
  // If the network drops all packets, the connection would take its place in the pool forever.
  const timer = setTimeout(() => connection.destroy(), Math.min(pingTimeout, acquireTimeout / 2))
  try {
    await connection.client.query('')
    return true
  } catch {
    return false
  } finally {
    clearTimeout(timer)
  }
}
