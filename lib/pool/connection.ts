import type pg from 'pg'
import { cancelRequest } from '../postgres/cancel.ts'
import type { ServerParameters } from '../pgbouncer/detect.ts'
import type { Answers } from '../postgres/answers.ts'
import type { Leftovers, SessionStateReset, Traces } from './session-state-reset.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'

/** What is larger is not copied for the sake of a single write. Bytes. */
const largestTogether = 65536

/** A pg client of ours, and what is known of it from its opening. */
export interface ScopeClient extends pg.Client {
  readonly baseline: Record<string, string>
  readonly parameters: ServerParameters
  readonly answers: Answers
  /** It was made before the pool was reset, so that its connection serves no further session. */
  outdated: boolean
}

/** Whoever uses a connection at the moment. */
export interface ConnectionUser {
  /** Batches written, and not yet answered. */
  readonly unanswered: number
  /** The connection ended although nobody here ended it. Batches under way are told by themselves. */
  connectionLost (error: unknown): void
}

/** After which a connection is replaced. */
export interface ConnectionLimits {
  readonly maxLifetime: number
  readonly maxUses: number
}

/** What a connection needs to know when it is opened. */
export interface ConnectionHost {
  /** For what the next connection prepares, or null where it may not. */
  prepared (): PreparedStatements | null
  /** Whether a pooler may stand behind the next connection. */
  pooled (): boolean
  /** Takes away what sessions leave behind; null where it stays. */
  readonly sessionState: SessionStateReset | null
}

/** One connection to the server for as long as it lives, whoever uses it. */
export class Connection {
  readonly client: pg.Client
  /** The client's type parsers, as pg itself puts them into a result: never the client, whose secret key would go along. */
  readonly types: pg.CustomTypesConfig
  /** Settings that its startup packet carried. */
  readonly baseline: Readonly<Record<string, string>>
  /** Past this moment (Date.now()) it is not kept. */
  expiresAt: number
  /** How many leases it has served, the present one included. */
  uses = 0
  readonly #maxUses: number
  /** What it has prepared, or null where nothing may be. */
  prepared: PreparedStatements | null
  /** What ended it, or null while it lives. */
  lost: Error | null = null
  /** It has been in other hands, or in nobody's, so that it may have died unnoticed. */
  reused = false
  /** A pooler has kept what is behind it, even where it was opened just now. */
  readonly pooled: boolean
  user: ConnectionUser | null = null
  /** To be told whose process answers, by the first who can ask; null where nobody wants to know. */
  onBackendKnown: ((backend: number) => void) | null = null
  /**
   * The statement that the server answers now is bound: it may have run. Bind is answered before Execute begins, whether the
   * statement was parsed just now or prepared long ago. A batch resets it behind each of its statements.
   */
  bound = false
  /** The server said that it ends the connection, behind the answers to all that it had run. */
  dismissed = false
  /** Answers may be on their way to one session while another writes: nothing in between could give them to a stranger. */
  sharable = false
  readonly #answers: Answers
  /** What sessions have left on it; null where that stays. */
  readonly leftovers: Leftovers | null
  #ending = false
  #watchers: (() => void)[] = []
  /** CancelRequests that the server may not have taken yet: each hits whatever the connection runs when it arrives. */
  #cancels = 0
  /** One of them is not known to have been taken, and may arrive at any time. */
  #threatened = false
  /** Called when no CancelRequest is on its way any more. */
  #afterCancels: (() => void)[] = []
  #unsent: Buffer[] = []

  /** @param limits maxLifetime in milliseconds, 0 for no limit */
  constructor (client: ScopeClient, { maxLifetime, maxUses }: ConnectionLimits, host: ConnectionHost) {
    this.client = client
    this.#maxUses = maxUses
    this.types = (client as unknown as { _types: pg.CustomTypesConfig })._types // private to pg
    this.prepared = host.prepared()
    this.pooled = host.pooled()
    this.baseline = client.baseline
    this.#answers = client.answers
    this.leftovers = host.sessionState?.opened() ?? null
    // Up to a tenth earlier, so that connections opened together are not replaced together.
    this.expiresAt = maxLifetime === 0 ? Infinity : Date.now() + maxLifetime * (1 - Math.random() / 10)
    // Without a listener a client that is killed between two statements would end the process.
    client.on('error', (error) => {
      this.#end(error)
      // It may be of an answer that nobody asked for: what comes next cannot be trusted.
      cutOff(client)
    })
    client.connection.on('bindComplete', () => { this.bound = true })
    client.on('end', () => this.#end(new Error('the connection was ended')))
  }

  /** Sends bytes. What is written in one turn of the running code leaves together, in one write to the socket. */
  write (bytes: Buffer): void {
    if (this.#unsent.length === 0 && this.#cancels === 0) process.nextTick(flush, this)
    this.#unsent.push(bytes)
  }

  flush (): void {
    if (this.#cancels > 0) return
    if (this.#threatened) this.destroy(new Error('a CancelRequest for an earlier statement may still arrive'))
    const { stream } = this.client.connection
    const unsent = this.#unsent
    this.#unsent = []
    if (!stream.writable) return
    if (unsent.length === 1) stream.write(unsent[0]!)
    else if (unsent.some(({ length }) => length > largestTogether)) for (const bytes of unsent) stream.write(bytes)
    else stream.write(Buffer.concat(unsent))
  }

  /**
   * COMMIT was written, and somebody else may have the connection before it is answered: who does must neither cancel, for
   * that would hit it, nor cut the connection off, for its outcome would be unknown.
   */
  get commitPending (): boolean {
    return this.#ending
  }

  set commitPending (ending: boolean) {
    this.#ending = ending
    if (!ending && this.#watchers.length > 0) for (const watcher of this.#watchers.splice(0)) watcher()
  }

  /** Calls back when no COMMIT of whoever had it before is under way any more: at once, mostly. */
  whenCommitAnswered (callback: () => void): void {
    if (this.#ending) this.#watchers.push(callback)
    else callback()
  }

  /**
   * Asks the server to cancel what the connection is running. As long as the request may hit something else, nothing is written and
   * no other session gets the connection; where that never becomes known, nothing is written any more and it is not kept.
   */
  async cancel (): Promise<void> {
    this.#cancels++
    if (!await cancelRequest(this.client)) this.#threatened = true
    if (--this.#cancels > 0) return
    if (this.#unsent.length > 0) this.flush()
    for (const callback of this.#afterCancels.splice(0)) callback()
  }

  /** A CancelRequest may still hit what is written now. */
  get canceling (): boolean {
    return this.#cancels > 0 || this.#threatened
  }

  /** Calls back when no CancelRequest is on its way any more: at once, mostly. */
  whenNotCanceling (callback: () => void): void {
    if (this.#cancels > 0) this.#afterCancels.push(callback)
    else callback()
  }

  /** A statement was written that may leave something behind. */
  leaves (traces: Traces | null): void {
    if (traces !== null) this.leftovers?.add(traces)
  }

  /** Another session may have it. */
  get reusable (): boolean {
    return this.clean && !this.canceling
  }

  /** Alive and outside a transaction, by the last ReadyForQuery. */
  get clean (): boolean {
    return this.lost === null && this.client.getTransactionStatus() === 'I'
  }

  /**
   * Owes no answer, so that it can say goodbye; anything else is cut off, for the server may never answer. A raw client that was
   * left in a transaction is as good: pg itself cuts off one that is at work.
   */
  get canEndGracefully (): boolean {
    return this.reusable || !this.client.pipeline
  }

  /** performance.now() when the server was last heard. */
  get lastHeard (): number {
    return this.#answers.heard
  }

  /** It is to be replaced as soon as its session ends. */
  get expired (): boolean {
    return this.uses >= this.#maxUses || Date.now() >= this.expiresAt
  }

  /**
   * Ends it without asking: the server rolls back what is open when it sees the socket close.
   *
   * @param reason what those are told who wait for an answer
   */
  destroy (reason?: Error): void {
    cutOff(this.client, reason)
  }

  #end (error: Error): void {
    if (this.lost !== null) return
    this.lost = error
    this.user?.connectionLost(error)
  }
}

function flush (connection: Connection): void {
  connection.flush()
}

/** Closes a client's socket, whatever the client is doing. */
export function cutOff (client: pg.Client, reason?: Error): void {
  client.connection.stream.destroy(reason)
}
