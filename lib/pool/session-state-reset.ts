import type pg from 'pg'
import { leavingFunctions } from '../postgres/leaving-functions.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'

/** What a text may leave behind on its connection. */
export interface Traces {
  /** It leaves state behind by itself: SET, LISTEN, a temporary table, … */
  readonly state: boolean
  /** Functions that it calls and that are not known to be PostgreSQL's own: the text does not show what they leave behind. */
  readonly calls: readonly string[]
  /** It may define a function, or something that calls one: a trigger, a view, a policy. */
  readonly defines: boolean
}

/** How long a reset may take before the connection is given up. Milliseconds. */
const patience = 5000

/** A connection that is opened this long after the functions were last read makes the pool read them again. Milliseconds. */
const lifetime = 30000

/** How many names of functions are remembered. */
const most = 10000

const asText = { getTypeParser: () => String }
const plainName = /^[a-z_]\w*$/

/**
 * Keeps what one session leaves on its connection from the next one. The words of a text show what it leaves. They do not show what
 * a function leaves that the text or a trigger calls: for that, the code of all functions of the database is read at startup, when a
 * text calls a function that was not known by then, and when a text defines something.
 */
export class SessionStateReset {
  /** Whether a connection is ours alone from one session to the next. */
  readonly #owned: () => boolean
  /** Functions that leave something behind. */
  #leaving = new Set<string>()
  /** Functions that were called before the code was last read. */
  readonly #known = new Set<string>()
  /** No text shows all that its session leaves: a trigger leaves something, say, or the functions could not be read. */
  #hidden = false
  /** performance.now() when the functions were last read. */
  #learned = -Infinity
  #outdated = false
  /** How often they were asked for, and which answer is the newest. */
  #asked = 0
  #answered = 0

  constructor (owned: () => boolean) {
    this.#owned = owned
  }

  /** For a connection that was just opened. */
  opened (): Leftovers {
    if (performance.now() - this.#learned > lifetime) this.#outdated = true
    return new Leftovers(this)
  }

  get owned (): boolean {
    return this.#owned()
  }

  get hidden (): boolean {
    return this.#hidden
  }

  /** The functions have to be read again. */
  get outdated (): boolean {
    return this.#outdated
  }

  /** What a call of these functions leaves behind; 'unknown' until their code is read. */
  left (calls: readonly string[]): 'nothing' | 'state' | 'unknown' {
    if (calls.some((name) => this.#leaving.has(name))) return 'state'
    return calls.every((name) => this.#known.has(name)) ? 'nothing' : 'unknown'
  }

  /**
   * Reads the code of all functions. Where that fails, every session is reset.
   *
   * @param calls what was called before, so that it can be told from what is made later
   */
  async learn (client: pg.ClientBase, calls: readonly string[] = []): Promise<void> {
    if (!this.owned) return
    const turn = ++this.#asked
    this.#learned = performance.now()
    // Connections that come back meanwhile need not ask as well.
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
      // The next connection to be opened tries again.
      this.#learned = -Infinity
      return
    }
    if (this.#known.size + calls.length > most) this.#known.clear()
    for (const name of calls) this.#known.add(name)
  }
}

/** As otherCalls() writes them. */
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

/** What the session of one connection has left on it. */
export class Leftovers {
  readonly #shared: SessionStateReset
  #state = false
  /** A function was called, or something defined, of which it is not known what it leaves. */
  #doubtful = false
  #calls: string[] = []

  constructor (shared: SessionStateReset) {
    this.#shared = shared
  }

  /** It may not go to another session as it is. */
  get any (): boolean {
    const { hidden, outdated, owned } = this.#shared
    return (this.#state || this.#doubtful || hidden || outdated) && owned
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

  /** Resets the connection where something is left on it. @returns whether it is as good as new; never rejects */
  async clear (connection: ResettableConnection): Promise<boolean> {
    const timer = setTimeout(() => connection.destroy(), patience)
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
