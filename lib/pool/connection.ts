import type pg from 'pg'
import { cancelRequest } from '../postgres/cancel.ts'
import type { ServerParameters } from '../pgbouncer/detect.ts'
import type { Host } from '../postgres/host.ts'
import type { KnownLog } from '../postgres/known-log.ts'
import type { Answers } from '../postgres/answers.ts'
import type { Leftovers, SessionStateReset, Traces } from './session-state-reset.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'

/** Larger messages are written separately, as copying them costs more than another write. Bytes. */
const largestCombined = 65536

/** A pg client made by a source, with what is known of its connection since it was opened. */
export interface ScopeClient extends pg.Client {
  readonly baseline: Record<string, string>
  readonly parameters: ServerParameters
  readonly answers: Answers
  /** One of several hosts, or null. */
  readonly place: Host | null
  /** It was made before the pool was reset, so its connection serves no further session. */
  outdated: boolean
}

/** The pipeline that uses a connection at the moment. */
export interface ConnectionUser {
  /** Batches sent and not answered. */
  readonly unanswered: number
  /** The connection was lost. Batches that await an answer are failed separately. */
  connectionLost (error: unknown): void
}

/** The limits after which a connection is replaced. */
export interface ConnectionLimits {
  readonly maxLifetime: number
  readonly maxUses: number
}

/** What a new connection needs from the engine. */
export interface ConnectionHost {
  /** The prepared statements of a new connection, or null if it may not prepare any. */
  prepared (): PreparedStatements | null
  /** Whether the next connection may lead to a pooler. */
  pooled (): boolean
  /** Resets the state that sessions leave behind; null if it is kept. */
  readonly sessionState: SessionStateReset | null
}

/**
 * One connection to the server, from login to the end of its socket, across all leases.
 *
 * It owns what outlives a lease: unsent bytes, pending CancelRequests, prepared statements and session state. The
 * source creates it, Pool lends it by leases, and a pipeline writes to it. Its states:
 *
 * - clean: alive and outside of a transaction; `reusable` if no CancelRequest may hit it either
 * - commitPending: COMMIT is sent and not answered; the next session may already hold the lease
 * - canceling: a CancelRequest may still arrive, so nothing is written
 * - expired: to be replaced when its session ends
 * - lost: the socket is closed
 */
export class Connection {
  readonly client: pg.Client
  /** The client's type parsers, which pg puts into each result. Not the client itself, as it carries the secret key. */
  readonly types: pg.CustomTypesConfig
  /** The settings in its startup packet that hold for every transaction on it. */
  baseline: Readonly<Record<string, string>>
  /** Date.now() after which it is replaced. */
  expiresAt: number
  /** The number of leases so far, including the current one. */
  uses = 0
  readonly #maxUses: number
  /** Its prepared statements, or null if it may not prepare any. */
  prepared: PreparedStatements | null
  /** The reason why it ended, or null while it is alive. */
  lost: Error | null = null
  /** It served a session before, or was idle, so it may have died unnoticed. */
  reused = false
  /** It leads to a pooler, whose server connection may be older than this one. */
  readonly pooled: boolean
  user: ConnectionUser | null = null
  /** Called with the process id of the backend by the first batch that can ask for it; null if it is not needed. */
  onBackendKnown: ((backend: number) => void) | null = null
  /**
   * The server answered Bind for the current statement, so the statement may have run. Bind is answered before
   * Execute begins, for new and for prepared statements. A batch resets it after each statement.
   */
  bound = false
  /** The server announced that it closes the connection, after the answers to everything that it had run. */
  dismissed = false
  /** Another session may send while answers are pending: no pooler could deliver them to another client. */
  sharable = false
  /**
   * A batch waits until the one before it is answered. A pooler that does not identify itself may lose the answers of
   * a batch that it receives earlier.
   */
  serial = false
  /** Its transaction is read-only by the choice of its session, or may be. */
  mayBeReadOnly = false
  /** Each transaction on it may run on another server connection. Null: not known until `onBackendKnown` is called. */
  poolsTransactions: boolean | null = null
  /** The log of its server, once it is known: behind a pooler that assigns one for each transaction it never is. */
  log: KnownLog | null = null
  readonly #answers: Answers
  /** The one of several hosts that it leads to, or null. */
  readonly #place: Host | null
  readonly #leftovers: Leftovers | null
  #commitPending = false
  #afterCommit: (() => void)[] = []
  /** CancelRequests that the server may not have handled. Each cancels whatever the connection runs when it arrives. */
  #cancels = 0
  /** The fate of a CancelRequest is unknown, so it may arrive at any time. */
  #threatened = false
  /** Called when no CancelRequest is pending any more. */
  #afterCancels: (() => void)[] = []
  #unsent: Buffer[] = []
  /** Batches passed to pg and not answered. */
  #unanswered = 0
  /** Batches that wait for their turn on a serial connection. */
  #waiting: pg.Query[] = []

  /** @param limits maxLifetime in milliseconds, 0 for no limit */
  constructor (client: ScopeClient, { maxLifetime, maxUses }: ConnectionLimits, host: ConnectionHost) {
    this.client = client
    this.#maxUses = maxUses
    this.types = (client as unknown as { _types: pg.CustomTypesConfig })._types // private to pg
    this.prepared = host.prepared()
    this.pooled = host.pooled()
    this.baseline = client.baseline
    this.#answers = client.answers
    this.#place = client.place
    this.#leftovers = host.sessionState?.opened() ?? null
    // Reduced by up to a tenth, so that connections opened together are not replaced together.
    this.expiresAt = maxLifetime === 0 ? Infinity : Date.now() + maxLifetime * (1 - Math.random() / 10)
    // Without a listener, a client that is killed between two statements would crash the process.
    client.on('error', (error) => {
      this.#end(error)
      // The error may come from an unexpected answer, after which the connection cannot be trusted.
      cutOff(client)
    })
    client.connection.on('bindComplete', () => { this.bound = true })
    client.on('end', () => this.#end(new Error('the connection was ended')))
  }

  /** Sends a batch, in its turn. answered() has to follow. */
  send (batch: pg.Query): void {
    if (this.#waiting.length > 0 || (this.serial && this.#unanswered > 0)) this.#waiting.push(batch)
    else this.#pass(batch)
  }

  #pass (batch: pg.Query): void {
    this.#unanswered++
    this.client.query(batch)
  }

  /** A batch was answered, or failed with the connection. */
  answered (): void {
    this.#unanswered--
    while (this.#waiting.length > 0 && (!this.serial || this.#unanswered === 0)) this.#pass(this.#waiting.shift()!)
  }

  /** Sends bytes. All bytes of one tick are sent in one write to the socket. */
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
    else if (unsent.some(({ length }) => length > largestCombined)) for (const bytes of unsent) stream.write(bytes)
    else stream.write(Buffer.concat(unsent))
  }

  /**
   * COMMIT is sent and not answered. The next session may already have the connection. It must not cancel, as that
   * would hit the COMMIT, and must not close the connection, as the outcome would be unknown.
   */
  get commitPending (): boolean {
    return this.#commitPending
  }

  set commitPending (pending: boolean) {
    this.#commitPending = pending
    if (!pending && this.#afterCommit.length > 0) for (const callback of this.#afterCommit.splice(0)) callback()
  }

  /** Calls back when no COMMIT of a previous session is pending: usually immediately. */
  whenCommitAnswered (callback: () => void): void {
    if (this.#commitPending) this.#afterCommit.push(callback)
    else callback()
  }

  /**
   * Asks the server to cancel the running statement. While the request may still hit another statement, nothing is
   * written and no other session gets the connection. If its fate never becomes known, nothing is written any more
   * and the connection is closed.
   */
  async cancel (): Promise<void> {
    this.#cancels++
    if (!await cancelRequest(this.client)) this.#threatened = true
    if (--this.#cancels > 0) return
    if (this.#unsent.length > 0) this.flush()
    for (const callback of this.#afterCancels.splice(0)) callback()
  }

  /** A CancelRequest may still hit a statement that is sent now. */
  get canceling (): boolean {
    return this.#cancels > 0 || this.#threatened
  }

  /** Calls back when no CancelRequest is pending: usually immediately. */
  whenNotCanceling (callback: () => void): void {
    if (this.#cancels > 0) this.#afterCancels.push(callback)
    else callback()
  }

  /** A statement that may leave state behind was sent. */
  leaves (traces: Traces | null): void {
    if (traces !== null) this.#leftovers?.add(traces)
  }

  /**
   * What sessions have left on it must be cleared before another session uses it. Behind a pooler that assigns a server
   * connection for one transaction, this process cannot do it.
   */
  get mustBeReset (): boolean {
    return this.#leftovers !== null && this.poolsTransactions !== true && this.#leftovers.any
  }

  /** @returns whether another session may use it */
  reset (): Promise<boolean> {
    return this.#leftovers!.clear(this)
  }

  /** Another session may use it. */
  get reusable (): boolean {
    return this.clean && !this.canceling
  }

  /** It is alive, and outside of a transaction by the last ReadyForQuery. */
  get clean (): boolean {
    return this.lost === null && this.client.getTransactionStatus() === 'I'
  }

  /**
   * It awaits no answer, so it can send Terminate. Otherwise its socket is closed, as the server may never answer.
   * This includes raw clients in a transaction, as pg itself closes the socket of one that is busy.
   */
  get canEndGracefully (): boolean {
    return this.reusable || !this.client.pipeline
  }

  /** performance.now() when the last bytes arrived. */
  get lastHeard (): number {
    return this.#answers.heard
  }

  /** It is replaced when its session ends. */
  get expired (): boolean {
    return this.uses >= this.#maxUses || Date.now() >= this.expiresAt || this.#place?.isLeft === true
  }

  /** It must accept writes. */
  get mustWrite (): boolean {
    return this.#place?.mustWrite === true
  }

  /** Its server is perhaps no longer what it was when it was opened: it is replaced, and the next one asks. */
  doubt (): void {
    if (this.#place === null) return
    this.#place.isDoubted = true
    this.expiresAt = 0
  }

  /** Closes the socket: the server rolls back. @param reason the error of batches that await an answer */
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

/** Closes a client's socket immediately. */
export function cutOff (client: pg.Client, reason?: Error): void {
  client.connection.stream.destroy(reason)
}
