import type { Socket } from 'node:net'
import { startTcpProxy } from './tcp-proxy.ts'

/** Stands for a pooler that does not identify itself: clients get process ids that are not those of their backends. */
export interface LosingPooler {
  /** The given URL with this pooler's host and port. */
  connectionString (base: string): string
  /** The most requests (Sync, or a query of the simple protocol) of one connection that were unanswered at once. */
  readonly mostPending: number
  /** The answers that were lost. */
  readonly lost: number
  /** The answer to the next request of any connection is lost. */
  loseNext (): void
}

/** Added to the process ids of the server. */
const offset = 1_000_000
const cancelCode = 80877102

/**
 * Starts it in front of a server. It loses the answer to every request that it receives while an earlier one of the
 * same connection is unanswered, as poolers did that expect one Sync at a time.
 */
export async function startLosingPooler (
  t: { teardown (fn: () => unknown): unknown }, upstream: { host: string, port: number }
): Promise<LosingPooler> {
  let mostPending = 0
  let lost = 0
  let losesNext = false
  const { connectionString } = await startTcpProxy(t, upstream, (client, target) => {
    /** For each unanswered request, whether its answer is lost. */
    const pending: boolean[] = []
    let isStarted = false
    onMessages(client, () => isStarted ? 1 : 0, (message) => {
      if (!isStarted) {
        isStarted = true
        if (message.readUInt32BE(4) === cancelCode) message.writeInt32BE(message.readInt32BE(8) - offset, 8)
      } else if (message[0] === 0x53 || message[0] === 0x51) { // Sync, Query
        const isLost = losesNext || pending.length > 0
        losesNext = false
        if (isLost) lost++
        pending.push(isLost)
        mostPending = Math.max(mostPending, pending.length)
      }
      target.write(message)
    })
    onMessages(target, () => 1, (message) => {
      if (message[0] === 0x4b) message.writeInt32BE(message.readInt32BE(5) + offset, 5) // BackendKeyData
      if (pending[0] !== true) client.write(message)
      if (message[0] === 0x5a) pending.shift() // ReadyForQuery
    })
  })
  return {
    connectionString,
    get mostPending () { return mostPending },
    get lost () { return lost },
    loseNext () { losesNext = true }
  }
}

/** @param typeLength the length of the type in front of the message's length: the first message has none */
function onMessages (socket: Socket, typeLength: () => number, take: (message: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    rest = rest.length === 0 ? chunk as Buffer : Buffer.concat([rest, chunk as Buffer])
    for (;;) {
      const type = typeLength()
      if (rest.length < type + 4) return
      const end = type + rest.readUInt32BE(type)
      if (rest.length < end) return
      take(Buffer.from(rest.subarray(0, end)))
      rest = rest.subarray(end)
    }
  })
}
