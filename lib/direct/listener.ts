import type { FastifyBaseLogger } from 'fastify'
import pg from 'pg'
import { checkOptions, isAbortSignal, isFunction, optionsError, type Rules } from '../config/option-rules.ts'
import { delayAfter } from '../config/retry-policy.ts'
import { noFunction, pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { isIdentifier, longestIdentifier } from '../postgres/identifier.ts'
import type { ListenOptions, Notification, Subscription } from '../../types/direct.ts'
import { DirectConnection, type DirectHost } from './direct-connection.ts'

type Receive = (payload: string, notification: Notification) => unknown

interface Entry {
  readonly receive: Receive
  readonly onReconnect: (() => unknown) | undefined
  /** LISTEN was answered once, so a lost connection means a gap. */
  isEstablished: boolean
}

/** The delays before the attempts to connect again, in milliseconds. */
const delays = { minDelay: 100, maxDelay: 10000 }

export const listenRules: Rules = {
  onReconnect: isFunction,
  signal: isAbortSignal
}

/**
 * All subscriptions of an engine, on one connection that exists while there are any. When it is lost, another one is
 * opened, with delays that double up to 10 s (full jitter), and listens to all channels again.
 */
export class Listener {
  readonly #host: DirectHost
  readonly #log: FastifyBaseLogger
  readonly #channels = new Map<string, Set<Entry>>()
  #connection: DirectConnection | null = null
  #connecting: Promise<DirectConnection> | null = null
  #retry: NodeJS.Timeout | undefined
  #attempts = 0
  #isClosed = false

  constructor (host: DirectHost, log: FastifyBaseLogger) {
    this.#host = host
    this.#log = log
  }

  async listen (channel: string, receive: Receive, options: ListenOptions): Promise<Subscription> {
    checkChannel(channel)
    if (typeof receive !== 'function') throw noFunction('listen', receive)
    checkOptions(options, listenRules, '')
    const { onReconnect, signal } = ownFields(options)
    if (signal?.aborted === true) throw abortedError(signal)
    const entry: Entry = { receive, onReconnect, isEstablished: false }
    const entries = this.#channels.get(channel) ?? new Set()
    this.#channels.set(channel, entries.add(entry))
    const close = (): Promise<void> => {
      signal?.removeEventListener('abort', close)
      return this.#remove(channel, entry)
    }
    try {
      const connection = this.#connection ?? await this.#connect()
      await connection.query(listenTo(channel))
      // It may have aborted since.
      if ((signal as AbortSignal | undefined)?.aborted === true) throw abortedError(signal!)
    } catch (error) {
      await close()
      throw error
    }
    entry.isEstablished = true
    signal?.addEventListener('abort', close, { once: true })
    return { channel, close, [Symbol.asyncDispose]: close }
  }

  async close (): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#retry)
    this.#channels.clear()
    await this.#closeIfUnused()
  }

  async #remove (channel: string, entry: Entry): Promise<void> {
    const entries = this.#channels.get(channel)
    if (entries?.delete(entry) !== true || entries.size > 0) return
    this.#channels.delete(channel)
    if (this.#channels.size === 0) return await this.#closeIfUnused()
    // Statements run in the order of their calls: a later LISTEN to the same channel comes behind it.
    await this.#connection?.query(`UNLISTEN ${pg.escapeIdentifier(channel)}`).catch(() => {})
  }

  async #closeIfUnused (): Promise<void> {
    if (this.#channels.size > 0) return
    clearTimeout(this.#retry)
    const connection = this.#connection
    this.#connection = null
    await connection?.close()
  }

  #connect (): Promise<DirectConnection> {
    this.#connecting ??= this.#open().finally(() => { this.#connecting = null })
    return this.#connecting
  }

  async #open (): Promise<DirectConnection> {
    clearTimeout(this.#retry)
    const connection = await DirectConnection.open(this.#host, (error) => this.#lost(connection, error))
    connection.onNotification((notification) => this.#received(notification))
    if (this.#isClosed || this.#channels.size === 0) {
      await connection.close()
      throw pgScopeError('FST_PG_SCOPE_CLOSED', 'The subscription was closed before the connection was open.')
    }
    this.#connection = connection
    await connection.query([...this.#channels.keys()].map(listenTo).join('; '))
    if (this.#attempts > 0) {
      this.#log.info({ channels: this.#channels.size }, 'listen(): the connection is open again')
      this.#attempts = 0
    }
    for (const entries of this.#channels.values()) {
      for (const { isEstablished, onReconnect } of entries) {
        if (isEstablished && onReconnect !== undefined) this.#call(onReconnect)
      }
    }
    return connection
  }

  #lost (connection: DirectConnection, error: Error): void {
    if (this.#connection !== connection) return
    this.#connection = null
    this.#log.warn({ err: error }, 'listen(): the connection was lost, and is opened again')
    this.#scheduleRetry()
  }

  #scheduleRetry (): void {
    if (this.#isClosed || this.#channels.size === 0) return
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => {
      if (this.#connection !== null) return
      this.#connect().catch((error) => {
        this.#log.warn({ err: error }, 'listen(): the connection could not be opened again')
        if (this.#connection === null) this.#scheduleRetry()
      })
    }, delayAfter(delays, ++this.#attempts))
  }

  #received ({ channel, payload = '', processId }: pg.Notification): void {
    const notification = Object.freeze({ channel, payload, processId })
    for (const { receive } of this.#channels.get(channel) ?? []) this.#call(() => receive(payload, notification))
  }

  /** A function of the user may throw or return a promise that rejects. */
  #call (fn: () => unknown): void {
    const log = (error: unknown): void => this.#log.error({ err: error }, 'a function passed to listen() failed')
    try {
      Promise.resolve(fn()).catch(log)
    } catch (error) {
      log(error)
    }
  }
}

const listenTo = (channel: string): string => `LISTEN ${pg.escapeIdentifier(channel)}`

function checkChannel (channel: unknown): void {
  if (isIdentifier(channel)) return
  throw optionsError('channel', `a string of 1 to ${longestIdentifier} bytes without a zero byte`, channel)
}

function abortedError (signal: AbortSignal): Error {
  return pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of listen() was aborted.', signal.reason)
}
