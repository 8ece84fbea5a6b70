/** A text that the statement contains (case ignored), a pattern, or a function. */
export type StatementMatch = string | RegExp | ((statement: string, connection: number) => boolean)

export interface CutOptions {
  /**
   * The client gets RST (ECONNRESET) instead of FIN. Default false. Node shows an ordinary end all the same when other
   * bytes arrive together with the RST.
   */
  reset?: boolean
}

export interface TearOptions {
  /** Whose bytes are torn. */
  from: 'client' | 'server'
  /** How much later the second half comes, in milliseconds. Default: it never does, and the connection is cut. */
  stall?: number
}

export interface CutOnOptions extends CutOptions {
  /** Let the server run the statement, and cut instead of passing its answer on. Default false: it never arrives. */
  after?: boolean
  /** How many connections to cut. Default 1. */
  times?: number
}

export class Trap {
  readonly after: boolean
  readonly reset: boolean
  /** Resolves when the first connection has been cut. */
  readonly sprung: Promise<void>
  /** Set it to 0 to take the trap away. */
  times: number
  readonly #match: StatementMatch
  #resolve!: () => void

  constructor (match: StatementMatch, options: CutOnOptions) {
    this.#match = match
    this.after = options.after ?? false
    this.reset = options.reset ?? false
    this.times = options.times ?? 1
    this.sprung = new Promise(resolve => { this.#resolve = resolve })
  }

  catches (statement: string, connection: number): boolean {
    if (this.times < 1 || !this.#matches(statement, connection)) return false
    this.times--
    return true
  }

  spring (): void {
    this.#resolve()
  }

  #matches (statement: string, connection: number): boolean {
    if (typeof this.#match === 'function') return this.#match(statement, connection)
    if (typeof this.#match === 'string') return statement.toLowerCase().includes(this.#match.toLowerCase())
    return statement.search(this.#match) !== -1
  }
}
