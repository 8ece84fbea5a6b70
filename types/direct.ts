/** A notification of NOTIFY or pg_notify(). */
export interface Notification {
  readonly channel: string
  /** The empty string if the sender gave none. */
  readonly payload: string
  /** The process id of the sender's backend. */
  readonly processId: number
}

export interface ListenOptions {
  /**
   * Called each time when the connection was lost and is open again: notifications that were sent in between are
   * missing, so read again whatever they announce. Errors are logged.
   */
  onReconnect?: (() => unknown) | undefined
  /** Ends the subscription when it aborts. */
  signal?: AbortSignal | undefined
}

/** The result of listen(). `await using` ends it. */
export interface Subscription extends AsyncDisposable {
  readonly channel: string
  /** No call of the function begins afterwards. May be called twice. */
  close (): Promise<void>
}

export interface LockOptions {
  /**
   * How long to wait for the lock, in milliseconds. 0: do not wait. Default: until the lock is free.
   */
  wait?: number | undefined
  /** Ends the wait, and aborts the signal of the function. */
  signal?: AbortSignal | undefined
}

/** A lock that is held. */
export interface HeldLock {
  /**
   * Aborts when the lock is lost (FST_PG_SCOPE_LOCK_LOST), when the app begins to close (FST_PG_SCOPE_CLOSED), and with
   * `options.signal`.
   */
  readonly signal: AbortSignal
}
