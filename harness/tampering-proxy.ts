import { startTcpProxy } from './tcp-proxy.ts'

/** One message of the server: type, length and body. */
export interface ServerMessage {
  readonly type: string
  readonly bytes: Buffer
}

/**
 * What is passed on in the place of a message.
 *
 * @returns null to close the connection on the client's side, `last` to do so behind it
 */
export type Tamper = (message: ServerMessage, index: number) => Buffer | null | { last: Buffer }

export interface TamperingProxy {
  /** The given URL with this proxy's host and port. */
  connectionString (base: string): string
  /**
   * From the next answer to a client's bytes that contain `marker` on, each message of that connection goes through
   * `tamper`.
   */
  arm (marker: string, tamper: Tamper): void
  disarm (): void
  readonly armed: boolean
}

/** A message of the server's: its length is that of the body unless another one is given. */
export function serverMessage (type: string, body: Buffer | string = '', length?: number): Buffer {
  const bytes = Buffer.from(body)
  const header = Buffer.alloc(5)
  header.write(type, 'latin1')
  header.writeUInt32BE(length ?? bytes.length + 4, 1)
  return Buffer.concat([header, bytes])
}

/** A TCP proxy that changes what the server answers. */
export async function startTamperingProxy (
  t: { teardown (fn: () => unknown): unknown }, upstream: { host: string, port: number }
): Promise<TamperingProxy> {
  let armed: { marker: string, tamper: Tamper } | null = null
  const { connectionString } = await startTcpProxy(t, upstream, (client, target) => {
    let mine = armed?.marker === '' ? armed : null
    let index = 0
    let kept = Buffer.alloc(0)
    client.on('data', (chunk) => {
      if (mine !== armed) {
        mine = armed !== null && armed.marker !== '' && chunk.includes(armed.marker) ? armed : null
        index = 0
      }
      target.write(chunk)
    })
    target.on('data', (chunk) => {
      if (mine === null) return client.write(chunk)
      kept = Buffer.concat([kept, chunk])
      const passed: Buffer[] = []
      let closes = false
      while (!closes && kept.length >= 5 && kept.length > kept.readUInt32BE(1)) {
        const bytes = kept.subarray(0, kept.readUInt32BE(1) + 1)
        kept = kept.subarray(bytes.length)
        const instead = mine.tamper({ type: String.fromCharCode(bytes[0]!), bytes }, index++)
        if (instead === null) closes = true
        else if (instead instanceof Uint8Array) passed.push(instead)
        else {
          closes = true
          passed.push(instead.last)
        }
      }
      const bytes = Buffer.concat(passed)
      if (closes) client.end(bytes)
      else client.write(bytes)
    })
  })
  return {
    connectionString,
    arm (marker, tamper) { armed = { marker, tamper } },
    disarm () { armed = null },
    get armed () { return armed !== null }
  }
}
