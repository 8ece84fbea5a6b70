import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * A free port below those that the system gives to outgoing connections. In that range a client that tries again
 * and again to reach a server that is down would some day get the server's port as its own, and keep it from coming
 * back.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    const probe = createServer()
    try {
      probe.listen(port, '127.0.0.1')
      await once(probe, 'listening')
    } catch {
      continue
    }
    probe.close()
    await once(probe, 'close')
    return port
  }
}
