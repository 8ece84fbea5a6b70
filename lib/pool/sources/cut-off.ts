import type { Socket } from 'node:net'
import type pg from 'pg'

/** Errors of logins that were cut off. */
const cutOffs = new WeakSet<Error>()

/** Notes a login that the server, or what stands in front of it, has cut off before it sent any answer. */
export function noteCutOff (client: pg.Client, error: Error): void {
  const stream = client.connection.stream as Socket
  // This process destroys a stream without reading its end, or with an error of its own.
  const byPeer = stream.readableEnded || (error as NodeJS.ErrnoException).code === 'ECONNRESET'
  if (byPeer && stream.bytesRead === 0) cutOffs.add(error)
}

export function wasCutOff (error: unknown): boolean {
  return error instanceof Error && cutOffs.has(error)
}
