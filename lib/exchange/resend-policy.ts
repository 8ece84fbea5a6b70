/** Milliseconds between two tries; the first is made at once. */
const pause = 150

/** Together more than server_login_retry in docs/pgbouncer.ini. */
const most = 11

/**
 * How often what the server has not looked at is sent again. More than once, for behind PgBouncer a new connection may be given
 * a dead server too; and after a restart of PostgreSQL it refuses whoever comes first, and logs in only then.
 */
export class ResendPolicy {
  #tries = 0
  #timer: NodeJS.Timeout | null = null

  get canResend (): boolean {
    return this.#tries < most
  }

  resend (fn: () => void): void {
    if (this.#tries++ === 0) return fn()
    this.#timer = setTimeout(() => {
      this.#timer = null
      fn()
    }, pause)
  }

  /** No other try is made; whether one would have been. */
  cancel (): boolean {
    if (this.#timer === null) return false
    clearTimeout(this.#timer)
    this.#timer = null
    return true
  }
}
