import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import pg from 'pg'
import { ownFields } from '../own-fields.ts'
import { letExit } from '../process-exit.ts'
import { isStandInSocket } from '../stand-in.ts'

/** How long the server may take to accept a CancelRequest. Milliseconds. */
const cancelRequestTimeout = 500

/**
 * Asks the server to cancel what a client's connection is running, on a separate socket
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS).
 * This side never closes the socket first: PgBouncer 1.18 would crash, and disconnect all its clients.
 *
 * @returns true if the request can no longer cancel anything: the server has closed the socket, or nothing was written.
 *   False if that is unknown, because the request may still arrive.
 */
export function cancelRequest (client: pg.Client): Promise<boolean> {
  // The types of pg omit these properties of a client and of a connection.
  const {
    host, port, ssl, processID, secretKey
  } = client as pg.Client & { processID: number | null, secretKey: number }
  // A pooler may have announced no key for CancelRequests.
  if (processID === null) return Promise.resolve(true)
  const { stream: socket } = client.connection
  const stream = isStandInSocket(socket) ? socket.another() : undefined
  const wire = new pg.Connection(ownFields<object>({ ssl, stream }) as pg.ConnectionConfig) as pg.Connection & {
    connect (portOrPath: number | string, host?: string): void
    requestSsl (): void
    cancel (processID: number, secretKey: number): void
    readonly stream: Socket
    attachListeners (stream: Readable): void
  }
  // The server sends nothing of interest.
  wire.attachListeners = (stream) => { stream.resume() }
  let written = false
  const write = (): void => {
    written = true
    wire.cancel(processID, secretKey)
  }
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      letExit(wire.stream)
      resolve(false)
    }, cancelRequestTimeout)
    const settle = (isHarmless: boolean): void => {
      clearTimeout(timer)
      resolve(isHarmless)
    }
    wire.on('connect', () => ssl ? wire.requestSsl() : write())
    wire.on('sslconnect', write)
    wire.on('error', () => settle(!written))
    wire.on('end', () => settle(true))
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
  })
}
