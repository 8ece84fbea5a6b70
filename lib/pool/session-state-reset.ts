import type pg from 'pg'
import { leavingFunctions } from '../postgres/leaving-functions.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'

/** What a statement's text may leave behind on its connection. */
export interface Traces {
  /** The text itself leaves state behind: SET, LISTEN, a temporary table, … */
  readonly state: boolean
  /** Functions that it calls and that are not PostgreSQL's own. The text does not show what they leave behind. */
  readonly calls: readonly string[]
  /** It may define a function, or an object that calls one: a trigger, a view, a policy. */
  readonly defines: boolean
}

/** How long a reset may take before the connection is closed. Milliseconds. */
const resetTimeout = 5000

/** A connection that is opened this long after the last read makes the pool read all functions again. Milliseconds. */
const refreshInterval = 30000

/** The number of function names to remember. */
const mostNames = 10000

const asText = { getTypeParser: () => String }
const plainName = /^[a-z_]\w*$/

/**
 * Ensures that no session sees state that an earlier one left on its connection. The words of a text show what the
 * text leaves, but not what a called function or a trigger leaves. For these, the code of all functions of the
 * database is read at startup, when a text calls an unknown function, and when a text defines an object.
 *
 * The engine owns one for all its connections; each connection has Leftovers, which record what its statements leave.
 */
export class SessionStateReset {
  /** Functions that leave state behind. */
  #leaving = new Set<string>()
  /** Functions that were called before the last read, so that it covers them. */
  readonly #known = new Set<string>()
  /** Texts do not show everything: a trigger leaves state behind, for example, or the functions could not be read. */
  #hidden = false
  /** performance.now() when the functions were last read. */
  #learned = -Infinity
  #outdated = false
  /** The number of reads started, and the newest of them that was answered. */
  #asked = 0
  #answered = 0

  /** Called for each new connection. */
  opened (): Leftovers {
    if (performance.now() - this.#learned > refreshInterval) this.#outdated = true
    return new Leftovers(this)
  }

  get hidden (): boolean {
    return this.#hidden
  }

  /** The functions must be read again. */
  get outdated (): boolean {
    return this.#outdated
  }

  /** What calls of these functions leave behind; 'unknown' until their code is read. */
  left (calls: readonly string[]): 'nothing' | 'state' | 'unknown' {
    if (calls.some((name) => this.#leaving.has(name))) return 'state'
    return calls.every((name) => this.#known.has(name)) ? 'nothing' : 'unknown'
  }

  /**
   * Reads the code of all functions. If that fails, every session is reset.
   *
   * @param calls functions that were called before, and so exist or do not exist by now
   */
  async learn (client: pg.ClientBase, calls: readonly string[] = []): Promise<void> {
    const turn = ++this.#asked
    this.#learned = performance.now()
    // Connections that are returned meanwhile need not read them again.
    this.#outdated = false
    try {
      const { rows } = await client.query({ text: leavingFunctions, rowMode: 'array', types: asText })
      const [names, hidden] = rows[0]!
      if (turn > this.#answered) {
        this.#answered = turn
        this.#leaving = namesOf(JSON.parse(names))
        this.#hidden = hidden === 't'
      }
    } catch {
      this.#hidden = true
      // The next new connection tries again.
      this.#learned = -Infinity
      return
    }
    if (this.#known.size + calls.length > mostNames) this.#known.clear()
    for (const name of calls) this.#known.add(name)
  }
}

/** The names in the notation of otherCalls(). */
function namesOf (functions: readonly string[]): Set<string> {
  return new Set(functions.flatMap((name) => plainName.test(name) ? [name.toLowerCase()] : [name.toLowerCase(), '']))
}

/** The part of a connection that a reset needs. */
interface ResettableConnection {
  readonly client: pg.ClientBase
  readonly prepared: PreparedStatements | null
  readonly reusable: boolean
  destroy (): void
}

/** State that sessions have left on one connection. */
export class Leftovers {
  readonly #shared: SessionStateReset
  #state = false
  /** It is not known what a called function or a new definition leaves behind. */
  #doubtful = false
  #calls: string[] = []

  constructor (shared: SessionStateReset) {
    this.#shared = shared
  }

  /** The connection must be reset before another session uses it. */
  get any (): boolean {
    return this.#state || this.#doubtful || this.#shared.hidden || this.#shared.outdated
  }

  add ({ state, calls, defines }: Traces): void {
    if (state) this.#state = true
    if (defines) this.#doubtful = true
    if (calls.length === 0) return
    const left = this.#shared.left(calls)
    if (left === 'state') this.#state = true
    else if (left === 'unknown') {
      this.#doubtful = true
      this.#calls.push(...calls)
    }
  }

  /** Resets the connection if state is left on it; never rejects. @returns whether another session may use it */
  async clear (connection: ResettableConnection): Promise<boolean> {
    const timer = setTimeout(() => connection.destroy(), resetTimeout)
    const calls = this.#calls
    try {
      if (this.#doubtful || this.#shared.outdated) await this.#shared.learn(connection.client, calls)
      if (this.#state || this.#shared.hidden || this.#shared.left(calls) !== 'nothing') {
        await connection.client.query('DISCARD ALL')
        connection.prepared?.cleared()
      }
      this.#state = this.#doubtful = false
      this.#calls = []
      return connection.reusable
    } catch {
      return false
    } finally {
      clearTimeout(timer)
    }
  }
}
