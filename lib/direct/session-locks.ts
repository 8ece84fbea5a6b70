import pg from 'pg'
import { checkOptions, isAbortSignal, isDuration, optionsError, type Rules } from '../config/option-rules.ts'
import { noFunction, pgScopeError } from '../errors.ts'
import { whenOver } from '../one-listener.ts'
import { ownFields } from '../own-fields.ts'
import type { HeldLock, LockOptions } from '../../types/direct.ts'
import { DirectConnection, type DirectHost } from './direct-connection.ts'

/**
 * How long one statement waits for a lock, in milliseconds. Then it is sent again: a connection that only waits does
 * not notice a broken network.
 */
const waitOfStatement = 30000

export const lockRules: Rules = {
  wait: isDuration,
  signal: isAbortSignal
}

/**
 * Session-level advisory locks
 * (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS), each on a connection of its own: the
 * server releases the lock when the connection ends, whatever happens to this process.
 */
export class SessionLocks {
  readonly #host: DirectHost
  /** Ends the waits, and aborts the signals of the locks that are held. */
  readonly #closing = new AbortController()
  readonly #connections = new Set<DirectConnection>()

  constructor (host: DirectHost) {
    this.#host = host
  }

  async lock<T> (
    key: string | number | bigint, fn: (lock: HeldLock) => Promise<T> | T, options: LockOptions
  ): Promise<T> {
    const sqlKey = checkKey(key)
    if (typeof fn !== 'function') throw noFunction('lock', fn)
    checkOptions(options, lockRules, '')
    const { wait, signal } = ownFields(options)
    const controller = new AbortController()
    const removeListeners = [this.#closing.signal, ...(signal === undefined ? [] : [signal])].map((each) => {
      const abort = (): void => controller.abort(each === signal ? abortedError(each) : each.reason)
      if (each.aborted) abort()
      return whenOver(each, abort)
    })
    let isHeld = false
    let lost: Error | null = null
    try {
      controller.signal.throwIfAborted()
      const connection = await DirectConnection.open(this.#host, (error) => {
        if (!isHeld) return // the statement that waits fails
        lost = lostError(error)
        controller.abort(lost)
      })
      this.#connections.add(connection)
      try {
        await acquire(connection, sqlKey, wait, controller.signal)
        isHeld = true
        const result = await fn(Object.freeze({ signal: controller.signal }))
        // Another process may have had the lock before fn had ended.
        if (lost !== null) throw lost
        return result
      } finally {
        this.#connections.delete(connection)
        await connection.close()
      }
    } finally {
      for (const remove of removeListeners) remove()
    }
  }

  /** The app has begun to close: the functions that hold a lock are told to end. */
  stop (reason: Error): void {
    this.#closing.abort(reason)
  }

  /** Releases the locks of functions that still run. */
  async close (): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close()))
  }
}

interface SqlKey {
  readonly expression: string
  readonly value: string
}

async function acquire (
  connection: DirectConnection, { expression, value }: SqlKey, wait: number | undefined, signal: AbortSignal
): Promise<void> {
  const removeListener = whenOver(signal, () => connection.cancel())
  try {
    signal.throwIfAborted()
    if (wait === 0) {
      const { rows: [row] } = await connection.query(`SELECT pg_try_advisory_lock(${expression}) AS locked`, [value])
      if (row.locked !== true) throw notAvailableError(0)
      return
    }
    const deadline = wait === undefined ? Infinity : performance.now() + wait
    for (;;) {
      signal.throwIfAborted()
      const left = Math.max(1, Math.round(Math.min(waitOfStatement, deadline - performance.now())))
      await connection.query(`SET lock_timeout = ${left}`)
      try {
        await connection.query(`SELECT pg_advisory_lock(${expression})`, [value])
        signal.throwIfAborted()
        return
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof pg.DatabaseError) || error.code !== '55P03') throw error // lock_not_available
        if (performance.now() >= deadline) throw notAvailableError(wait!)
      }
    }
  } finally {
    removeListener()
  }
}

/** Keys are values of type bigint. */
function checkKey (key: unknown): SqlKey {
  if (typeof key === 'string' && key !== '' && !key.includes('\0')) {
    return { expression: 'hashtextextended($1, 0)', value: key }
  }
  const isNumber = typeof key === 'bigint' ? BigInt.asIntN(64, key) === key : Number.isSafeInteger(key)
  if (isNumber) return { expression: '$1::bigint', value: String(key) }
  throw optionsError('key', 'a non-empty string without zero bytes, a safe integer, or a bigint of 64 bits', key)
}

function notAvailableError (wait: number): Error {
  const within = wait === 0 ? 'is held by another session' : `did not become free within ${wait} ms (\`wait\`)`
  return pgScopeError('FST_PG_SCOPE_LOCK_NOT_AVAILABLE', `The lock ${within}.`)
}

function lostError (cause: Error): Error {
  return pgScopeError('FST_PG_SCOPE_LOCK_LOST', 'The connection that held the lock was lost, so another process may ' +
    'have the lock now: the work of lock(key, fn) must end.', cause)
}

function abortedError (signal: AbortSignal): Error {
  return pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of lock() was aborted.', signal.reason)
}
