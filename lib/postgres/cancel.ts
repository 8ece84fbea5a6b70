import pg from 'pg'

/** How long the server may take to take a CancelRequest. Milliseconds. */
const patience = 500

/**
 * Asks the server to cancel what a client's connection is running, on a socket of its own
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS).
 * Resolves when the other side has closed that socket, and only then is it sure that a later statement is not hit;
 * resolves to false where that took too long. The socket is never closed from here while it may still be read:
 * that ends PgBouncer 1.18 with every client on it.
 */
export function cancelRequest (client: pg.Client): Promise<boolean> {
  // What the types of pg show neither of a client nor of a connection.
  const { host, port, ssl, processID, secretKey } = client as pg.Client & { processID: number, secretKey: number }
  const wire = new pg.Connection({ ssl } as pg.ConnectionConfig) as pg.Connection & {
    connect (portOrPath: number | string, host?: string): void
    requestSsl (): void
    cancel (processID: number, secretKey: number): void
    unref (): void
  }
  const write = (): void => wire.cancel(processID, secretKey)
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      wire.unref()
      resolve(false)
    }, patience)
    const over = (taken: boolean): void => {
      clearTimeout(timer)
      resolve(taken)
    }
    wire.on('connect', () => ssl ? wire.requestSsl() : write())
    wire.on('sslconnect', write)
    wire.on('error', () => over(false))
    wire.on('end', () => over(true))
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
  })
}
