import type { WireValue } from '../postgres/messages.ts'
import { laterPosition } from '../postgres/wal-position.ts'
import type { Writer } from '../exchange/written-position.ts'
import { settleChannel } from '../telemetry/channels.ts'
import { writer } from './current-session.ts'
import { traceSettle } from './settle-trace.ts'
import { type ManagedSession, type Outcome, sessionClosedError, type SessionHost } from './managed-session.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

export const notifyText = 'SELECT pg_notify($1, $2)'

/** What all sessions have in common: a session ends once, for one reason, and aborts its signal then. */
export abstract class SessionBase {
  arraySetIndex = -1
  attempt = 1
  soleEnd: ManagedSession['soleEnd'] = null
  onForcedClose: ManagedSession['onForcedClose']
  abstract endIsAwaited: boolean
  protected readonly host: SessionHost
  /** The request, for reports. */
  readonly label: RequestLabel | undefined
  /** The end, once it has begun. Later calls of end() get its promise. */
  protected ending: Promise<void> | null = null
  /** The error of calls after the end, if one was given. */
  protected reason: Error | undefined
  #controller: AbortController | null = null
  #writtenAt: string | null = null
  #sharedWriter: Writer | null = null

  constructor (host: SessionHost, label: RequestLabel | undefined) {
    this.host = host
    this.label = label
  }

  get writtenAt (): string | null {
    return this.#sharedWriter === null ? this.#writtenAt : this.#sharedWriter.writtenAt
  }

  /** A part of its work is committed. Several parts may be answered in another order than that of their commits. */
  set writtenAt (position: string | null) {
    if (this.#sharedWriter === null) this.#writtenAt = laterPosition(this.#writtenAt, position)
    else this.#sharedWriter.writtenAt = position
  }

  /** From now on it has one `writtenAt` with its request, an earlier attempt or the session around it. */
  shareWriter (writer: Writer): void {
    this.#sharedWriter = writer
  }

  get [writer] (): Writer {
    return this
  }

  /** What learns where the call that is being made has written. */
  protected writerOfCall (): Writer {
    return this
  }

  /** commit() has saved a part of its work. */
  get hasCommitted (): boolean {
    return false
  }

  abstract query (text: string, values?: readonly unknown[]): Promise<any>

  notify (channel: string, payload = ''): Promise<any> {
    return this.query(notifyText, [channel, payload])
  }

  addToEnd (_text: string, _values: WireValue[]): void {}

  abstract end (outcome: Outcome, reason?: Error): Promise<void>

  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.ending !== null) this.#controller.abort(this.reason)
    return this.#controller.signal
  }

  close (): Promise<void> {
    return this.end('rollback')
  }

  [Symbol.asyncDispose] (): Promise<void> {
    return this.close()
  }

  /** Begins the end, which is called once. */
  protected abstract startEnd (outcome: Outcome, reason?: Error): Promise<void>

  protected beginEnd (outcome: Outcome, reason?: Error): Promise<void> {
    if (!settleChannel.hasSubscribers) return this.startEnd(outcome, reason)
    return traceSettle(this.host.engineIdentity, this.label, outcome, () => this.startEnd(outcome, reason))
  }

  /** The session has ended. */
  protected ended (this: SessionBase & ManagedSession): void {
    this.#controller?.abort(this.reason)
    this.host.ended(this)
  }

  /** The error of calls after the end. */
  closedError (): Error {
    return this.reason ?? sessionClosedError()
  }
}
