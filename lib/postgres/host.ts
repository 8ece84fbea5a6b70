/** The delay before a host that failed is tried again; each failure in a row doubles it. Milliseconds. */
const firstDelay = 50

/** One host of several, and what the last attempt to connect has shown. */
export class Host {
  readonly host: string
  readonly port: number
  /** Its connections must accept writes. */
  readonly mustWrite: boolean
  /** Why its last connection was not what was asked for, or null. */
  problem: string | null = null
  /** It is a primary, and a standby is preferred: it is used if there is none. */
  isSecondChoice = false
  /** It has refused a write: what it announces at login is not believed any more. */
  isDoubted = false
  /** It does not fit, or another host has taken its place: its connections serve no further session. */
  isLeft = false
  /** Open connections. */
  connections = 0
  /** Connections that are being opened. */
  attempts = 0
  #failures = 0
  #failedAt = 0
  #jitter = 1

  constructor (host: string, port: number, mustWrite: boolean) {
    this.host = host
    this.port = port
    this.mustWrite = mustWrite
  }

  get name (): string {
    return this.host.includes(':') ? `[${this.host}]:${this.port}` : `${this.host}:${this.port}`
  }

  /** A connection is used. @param problem why it is only the second choice, or null */
  used (problem: string | null): void {
    this.problem = problem
    this.isSecondChoice = problem !== null
    this.isLeft = false
    this.#failures = 0
  }

  failed (problem: string, isSecondChoice: boolean): void {
    // Connections that were opened together fail together: that is one failure.
    if (this.problem === null || this.attempts === 0) this.#failures++
    this.problem = problem
    this.isSecondChoice = isSecondChoice
    this.#failedAt = performance.now()
    // Many processes do not try at the same time.
    this.#jitter = 1 - Math.random() / 2
  }

  /** Milliseconds until it may be tried again. @param longest the longest delay */
  dueIn (longest: number): number {
    if (this.#failures === 0) return 0
    const delay = Math.min(firstDelay * 2 ** (this.#failures - 1), longest) * this.#jitter
    return Math.max(0, this.#failedAt + delay - performance.now())
  }
}
