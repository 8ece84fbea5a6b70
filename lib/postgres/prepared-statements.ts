import { randomBytes } from 'node:crypto'
import type { FieldDef } from 'pg'
import type { Messages } from './messages.ts'

/** Shared by all connections of an engine. */
export interface Plans {
  /** Goes up when a plan no longer fits its table: what was prepared before is prepared anew, on every connection. */
  generation: number
  /**
   * White space to write behind a text from then on, and like nobody else's. PgBouncer takes the same text for the same statement,
   * whoever sent it, and what others prepared anew after one migration is out of date after the next.
   */
  mark?: string
  /**
   * Names are looked for in one schema. In several, a new table of an earlier one would hide a table that a plan knows; undefined until
   * somebody has asked.
   */
  oneSchema?: boolean
}

/** Of this process: no other one prepares under the same names, on a server connection that both may get. */
const ours = randomBytes(6).toString('base64url')
let connections = 0

/** A number in white space. */
function newMark (): string {
  return Math.floor(Math.random() * 2 ** 32).toString(2).replaceAll('0', ' ').replaceAll('1', '\t')
}

export interface PreparedStatement {
  readonly name: string
  readonly text: string
  readonly generation: number
  /** `parsing`: its first answer is still to come; `unknown`: that was a failure, which says nothing about Parse, or it may have been dropped. */
  state: 'parsing' | 'ready' | 'unknown'
  /** Its columns, null where it has none, undefined until they are known. */
  fields: FieldDef[] | null | undefined
  /** The number of its last use. */
  used: number
}

/** What is asked of a statement. */
export interface Preparable {
  readonly text: string
  /** The user's name for it. */
  readonly name: string | undefined
  /** Used so often that it is worth a place. */
  readonly automatic: boolean
  /** It is a caller's: other statements are the plugin's own, which name nothing but what is PostgreSQL's. */
  readonly describes: boolean
}

/**
 * What one connection has prepared: under the names that the user chose, and in places of its own the texts that are used most
 * (https://www.postgresql.org/docs/current/sql-prepare.html).
 */
export class PreparedStatements {
  /** What the names begin with that are not the user's. */
  readonly #prefix = `scope_${ours}_${(++connections).toString(36)}_`
  readonly #named = new Map<string, PreparedStatement>()
  /** By text. */
  readonly #automatic = new Map<string, PreparedStatement>()
  readonly #most: number
  readonly #plans: Plans
  /** Of all of them. */
  #uses = 0
  /** Behind it the server connection is another one for each transaction, so that nothing is known of it in particular. */
  readonly #shared: boolean
  /**
   * Whether the connection has ever had temporary objects. PostgreSQL parses a prepared statement again when the first of them is made, for
   * the names that it knows may be hidden then, but not for the others.
   */
  #temporary: 'none' | 'possible' | 'some' = 'none'
  /** Something would have been prepared, so that it is worth asking. */
  #wanted = false

  /** @param most how many texts may be prepared without a name of the user's */
  constructor (most: number, plans: Plans, shared: boolean) {
    this.#most = most
    this.#plans = plans
    this.#shared = shared
  }

  /** It has to be asked whether names mean the same each time. */
  get asks (): boolean {
    return this.#wanted && (this.#plans.oneSchema === undefined || (this.#plans.oneSchema && this.#temporary === 'possible'))
  }

  /** What the connection answered. */
  learned (oneSchema: boolean, temporary: boolean): void {
    this.#plans.oneSchema = oneSchema
    if (!this.#shared) this.#temporary = temporary ? 'some' : 'none'
  }

  /** Temporary objects may have been made. */
  unsettled (): void {
    if (!this.#shared && this.#temporary === 'none') this.#temporary = 'possible'
  }

  /** Names mean what they meant when they were parsed. */
  get #settled (): boolean {
    if (this.#plans.oneSchema === true && this.#temporary === 'none') return true
    this.#wanted = true
    return false
  }

  /** What the user named, with the texts. */
  * named (): Iterable<[name: string, text: string]> {
    for (const [name, { text }] of this.#named) yield [name, text]
  }

  /** What the statement is to be bound to, or null for the unnamed statement; Parse is written where it is needed. */
  use ({ text, name, automatic, describes }: Preparable, messages: Messages): PreparedStatement | null {
    if (name !== undefined) return this.#prepare(this.#named, name, name, text, messages)
    if (!automatic || this.#most === 0 || (describes && !this.#settled)) return null
    return this.#automatically(text, messages)
  }

  /** The server has dropped all of them, and nothing is under way. */
  cleared (): void {
    this.#named.clear()
    this.#automatic.clear()
  }

  /**
   * The server has dropped one, or all of them.
   *
   * @param ahead it will have, behind all that was sent so far
   */
  dropped (ahead = false): void {
    for (const statements of [this.#named, this.#automatic]) {
      // What is on its way behind that will be there.
      for (const statement of statements.values()) if (ahead || statement.state === 'ready') statement.state = 'unknown'
    }
  }

  /** A plan no longer fits: who is the first to find out about it tells the others. */
  outdated (statement: PreparedStatement): void {
    if (statement.generation !== this.#plans.generation) return
    this.#plans.generation++
    this.#plans.mark = newMark()
  }

  #automatically (text: string, messages: Messages): PreparedStatement | null {
    const known = this.#automatic.get(text)
    if (known !== undefined) {
      known.used = ++this.#uses
      return this.#prepare(this.#automatic, text, known.name, text, messages)
    }
    if (this.#automatic.size < this.#most) return this.#prepare(this.#automatic, text, this.#prefix + this.#automatic.size.toString(36), text, messages)
    // The new one takes the name too, so that the place is cleared even if this batch fails before it comes to that.
    const oldest = this.#oldest
    if (oldest.state === 'parsing') return null
    this.#automatic.delete(oldest.text)
    messages.close(oldest.name)
    return this.#prepare(this.#automatic, text, oldest.name, text, messages)
  }

  /** Looked for only where one has to go: to keep them in order would cost each use of each. */
  get #oldest (): PreparedStatement {
    let oldest: PreparedStatement | undefined
    for (const statement of this.#automatic.values()) if (oldest === undefined || statement.used < oldest.used) oldest = statement
    return oldest!
  }

  #prepare (statements: Map<string, PreparedStatement>, key: string, name: string, text: string, messages: Messages): PreparedStatement | null {
    const known = statements.get(key)
    const { generation, mark } = this.#plans
    if (known !== undefined) {
      // Whether it will be there is not known yet.
      if (known.state === 'parsing') return null
      if (known.state === 'ready' && known.text === text && known.generation === generation) return known
      // Closing a name that does not exist is no error, and PgBouncer refuses a second Parse of a name whose first one failed.
      messages.close(name)
    }
    messages.parse(name, text + (mark ?? ''))
    const statement: PreparedStatement = { name, text, generation, state: 'parsing', fields: undefined, used: ++this.#uses }
    statements.set(key, statement)
    return statement
  }
}
