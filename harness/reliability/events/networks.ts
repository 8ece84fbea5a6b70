import { setTimeout as sleep } from 'node:timers/promises'
import type { BadDay } from '../event.ts'

export const networks: BadDay[] = [
  {
    name: 'a network that swallows packets for 3 s',
    meaning: 'Nothing arrives, nothing is refused, and connections that were in use stay silent for good, as when a host or a firewall vanishes. `answerTimeout` (1 s here) takes a connection for lost that owes an answer; `pool.acquireTimeout` (1.5 s here) bounds opening another; TCP keep-alive finds the idle ones within 20 s. On the server `idleInTransactionTimeout` (1 s here) ends what the network left open.',
    where: 'everywhere',
    cost: 'some requests',
    isSudden: true,
    network: 'behind the app',
    options: { answerTimeout: 1000, idleInTransactionTimeout: 1000, pool: { acquireTimeout: 1500 } },
    async run ({ proxy }) {
      proxy!.pause({ drop: true })
      await sleep(3000)
      proxy!.resume()
    }
  },
  {
    name: 'a network that cuts every connection',
    meaning: 'The same outage, at whose end a firewall resets the connections that it has forgotten. Without `answerTimeout`: requests wait until then.',
    where: 'everywhere',
    cost: 'some requests',
    isSudden: true,
    network: 'behind the app',
    options: { idleInTransactionTimeout: 1000, pool: { acquireTimeout: 1500 } },
    async run ({ proxy }) {
      proxy!.pause({ drop: true })
      await sleep(1000)
      proxy!.cut({ reset: true })
      proxy!.resume()
    }
  },
  {
    name: 'a slow network, 20 ms each way',
    meaning: 'A transaction with one statement takes two round trips, BEGIN with the statement and COMMIT. Nothing to set; statements that are called together share a round trip.',
    where: 'everywhere',
    cost: 'no request',
    isSudden: true,
    network: 'behind the app',
    async run ({ proxy }) {
      proxy!.delay(20)
      await sleep(1500)
      proxy!.delay(0)
    }
  }
]
