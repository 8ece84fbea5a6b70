import { setTimeout as sleep } from 'node:timers/promises'
import type { BadDay } from '../event.ts'

const where = 'behind PgBouncer'

export const poolers: BadDay[] = [
  {
    name: 'PgBouncer restarted',
    meaning: 'SIGINT, which lets transactions finish, and a start. Requests that come while it is away are refused: 503. A second PgBouncer on the same port (`so_reuseport`) or behind a load balancer hides it.',
    where,
    cost: 'some requests',
    isSudden: true,
    async run ({ pgBouncer }) {
      await pgBouncer!.stop('SIGINT')
      await sleep(200)
      await pgBouncer!.start()
    }
  },
  {
    name: 'PgBouncer killed with -9',
    meaning: 'It takes every client with it. What PostgreSQL had received of a COMMIT is committed all the same, so those outcomes are unknown.',
    where,
    cost: 'some requests',
    isSudden: true,
    async run ({ pgBouncer }) {
      await pgBouncer!.kill9()
      await sleep(200)
      await pgBouncer!.start()
    }
  },
  {
    name: 'PAUSE for 1 s, then RESUME',
    meaning: 'What an operator does around a failover. Requests wait, and none is lost while the pause is shorter than `query_wait_timeout` (10 s in docs/pgbouncer.ini), `pool.acquireTimeout` (3 s here) and `answerTimeout`.',
    where,
    cost: 'no request',
    isSudden: true,
    async run ({ pgBouncer }) {
      await pgBouncer!.pause()
      await sleep(1000)
      await pgBouncer!.resume()
    }
  },
  {
    name: 'RECONNECT',
    meaning: 'Each connection to PostgreSQL is replaced after its transaction: what to send after a migration or a change of DNS. Three times. Nothing to set.',
    where,
    cost: 'no request',
    isSudden: true,
    async run ({ pgBouncer }) {
      for (let i = 0; i < 3; i++) {
        await pgBouncer!.reconnect()
        await sleep(200)
      }
    }
  },
  {
    name: 'server_lifetime of 1 s',
    meaning: 'Connections to PostgreSQL are replaced every second between two transactions. Nothing to set.',
    where,
    cost: 'no request',
    settings: { server_lifetime: 1 },
    run: () => sleep(2500)
  },
  {
    name: 'client_idle_timeout of 1 s',
    meaning: 'PgBouncer closes connections that the pool keeps on purpose, five times around the moment when requests come. They are replaced without a failed request; `client_idle_timeout = 0`, as in docs/pgbouncer.ini, or a `pool.idleTimeout` below it spares the work.',
    where,
    cost: 'no request',
    settings: { client_idle_timeout: 1 },
    network: 'behind the app',
    async run ({ load, proxy }) {
      // So that requests and the news cross on the way.
      proxy!.delay(15)
      for (const pause of [950, 1000, 1050, 1150, 1350]) {
        await load.hold()
        await sleep(pause)
        load.resume()
        await sleep(200)
      }
      proxy!.delay(0)
    }
  },
  {
    name: 'query_wait_timeout of 1 s, and a PAUSE of 3.5 s',
    meaning: 'PgBouncer ends clients that wait too long for a connection. Such a request is sent once more, for nothing of it has run, and after a second wait answered with 503. `query_wait_timeout` longer than a planned interruption, shorter than what clients wait for.',
    where,
    cost: 'some requests',
    settings: { query_wait_timeout: 1 },
    async run ({ pgBouncer }) {
      await pgBouncer!.pause()
      await sleep(3500)
      await pgBouncer!.resume()
    }
  }
]
