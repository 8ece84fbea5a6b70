import type pg from 'pg'

/** Whoever uses a connection at the moment. */
export interface ConnectionUser {
  /** The connection ended although nobody here ended it. Batches under way are told by themselves. */
  connectionLost (error: unknown): void
}

/** One connection to the server for as long as it lives, whoever uses it. */
export class Connection {
  readonly client: pg.Client
  /** Settings that its startup packet carried. */
  readonly baseline: Readonly<Record<string, string>>
  /** Past this moment (Date.now()) it is not kept. */
  readonly expiresAt: number
  /** The names that it is known to have prepared, with their texts; null where a Parse was sent and its fate is unknown. */
  readonly prepared = new Map<string, string | null>()
  /** What ended it, or null while it lives. */
  lost: Error | null = null
  /** It has been in other hands, or in nobody's, so that it may have died unnoticed. */
  kept = false
  user: ConnectionUser | null = null
  /** Statements that the server has begun to look at: while this stands still, nothing that was sent has run. */
  parsed = 0

  constructor (client: pg.Client, baseline: Readonly<Record<string, string>>, expiresAt: number) {
    this.client = client
    this.baseline = baseline
    this.expiresAt = expiresAt
    // Without a listener a client that is killed between two statements would end the process.
    client.on('error', (error) => this.#end(error))
    wireOf(client).on('parseComplete', () => { this.parsed++ })
    client.on('end', () => this.#end(new Error('the connection was ended')))
  }

  /** Alive and outside a transaction, by the last ReadyForQuery. */
  get clean (): boolean {
    return this.lost === null && this.client.getTransactionStatus() === 'I'
  }

  get expired (): boolean {
    return Date.now() >= this.expiresAt
  }

  /** Ends it without asking: the server rolls back what is open when it sees the socket close. */
  destroy (): void {
    cutOff(this.client)
  }

  #end (error: Error): void {
    if (this.lost !== null) return
    this.lost = error
    this.user?.connectionLost(error)
  }
}

/** Closes a client's socket, whatever the client is doing. */
export function cutOff (client: pg.Client): void {
  wireOf(client).stream.destroy()
}

function wireOf (client: pg.Client): pg.Connection {
  return (client as unknown as { connection: pg.Connection }).connection
}
