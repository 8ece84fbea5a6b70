import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import pg from 'pg'
import { ownFields } from '../own-fields.ts'
import { letExit } from '../process-exit.ts'

/** How long the server may need to take a CancelRequest. Milliseconds. */
const patience = 500

/**
 * Asks the server to cancel what a client's connection is running, on a socket of its own
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS).
 * The socket is never closed from here while it may still be read: that ends PgBouncer 1.18 with every client on it.
 *
 * @returns true once the request can hit nothing any more: the other side has closed the socket, or nothing was
 *   written to it.
 * False where that is not known: the request may still be on its way.
 */
export function cancelRequest (client: pg.Client): Promise<boolean> {
  // What the types of pg show neither of a client nor of a connection.
  const {
    host, port, ssl, processID, secretKey
  } = client as pg.Client & { processID: number | null, secretKey: number }
  // A pooler need not give out a key to cancel with.
  if (processID === null) return Promise.resolve(true)
  const wire = new pg.Connection(ownFields<object>({ ssl }) as pg.ConnectionConfig) as pg.Connection & {
    connect (portOrPath: number | string, host?: string): void
    requestSsl (): void
    cancel (processID: number, secretKey: number): void
    readonly stream: Socket
    attachListeners (stream: Readable): void
  }
  // Nothing that comes means anything here.
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
    }, patience)
    const over = (harmless: boolean): void => {
      clearTimeout(timer)
      resolve(harmless)
    }
    wire.on('connect', () => ssl ? wire.requestSsl() : write())
    wire.on('sslconnect', write)
    wire.on('error', () => over(!written))
    wire.on('end', () => over(true))
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
  })
}
