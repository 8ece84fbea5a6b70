import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface TcpProxy {
  readonly port: number
  /** The given URL with this proxy's host and port. */
  connectionString (base: string): string
}

/**
 * The base of proxies for tests: pairs each client with a connection to the server. When one of the two ends, so does
 * the other.
 *
 * @param connected passes data on
 */
export async function startTcpProxy (
  t: { teardown (fn: () => unknown): unknown },
  upstream: { host: string, port: number },
  connected: (client: Socket, target: Socket) => void
): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const target = connect(upstream)
    for (const [socket, other] of [[client, target], [target, client]] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    connected(client, target)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  const { port } = server.address() as AddressInfo
  return {
    port,
    connectionString (base) {
      const url = new URL(base)
      url.host = `127.0.0.1:${port}`
      return url.href
    }
  }
}
