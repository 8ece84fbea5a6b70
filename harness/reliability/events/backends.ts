import { setTimeout as sleep } from 'node:timers/promises'
import type { BadDay } from '../event.ts'

export const backends: BadDay[] = [
  {
    name: 'backends terminated while idle',
    meaning: 'An administrator, a failover or `idle_session_timeout` ends connections on which nothing runs, five times, and requests come at once. The first batch of a transaction that meets a dead connection is sent again on a new one, because nothing can have been committed by then. Nothing to set.',
    where: 'everywhere',
    cost: 'no request',
    network: 'in front of the server',
    async run ({ app, proxy, server, load }) {
      // Whoever holds the connections, the app or PgBouncer, uses them before the news of their end has come.
      proxy!.delay(15)
      for (let i = 0; i < 5; i++) {
        await load.hold()
        if (await server.terminate('idle') === 0 && app.db.stats().strategy === 'queue') throw new Error('there was no backend to terminate')
        load.resume()
        await sleep(250)
      }
      proxy!.delay(0)
    }
  },
  {
    name: 'backends terminated in a transaction',
    meaning: '`pg_terminate_backend()` on whatever has a transaction open, again and again for a second. What was not committed is lost, and its clients are told so: 503 with Retry-After. A client that retries requests that are safe to send twice hides it.',
    where: 'everywhere',
    cost: 'some requests',
    async run ({ server }) {
      let ended = 0
      for (const until = performance.now() + 1000; performance.now() < until; await sleep(40)) ended += await server.terminate('active', 'idle in transaction', 'idle in transaction (aborted)')
      if (ended === 0) throw new Error('there was no backend to terminate')
    }
  }
]
