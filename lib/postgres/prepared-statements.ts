import { randomBytes } from 'node:crypto'
import type { FieldDef } from 'pg'
import type { Messages } from './messages.ts'

/** Shared by all connections of an engine. */
export interface Plans {
  /** Incremented when a plan no longer fits its table: every connection then prepares its statements again. */
  generation: number
  /**
   * White space that is appended to every text from then on, unique to this process. PgBouncer shares a prepared
   * statement between all clients that send the same text, so another process may have prepared it before the table
   * was altered.
   */
  mark?: string
  /**
   * Whether search_path has a single schema. With several, a new table in an earlier schema would hide a table that
   * a plan refers to. Undefined until the server has been asked.
   */
  oneSchema?: boolean
}

/** Unique to this process: behind a pooler, another process may use the same server connection. */
const ours = randomBytes(6).toString('base64url')
let connections = 0

/** A random number, written in spaces and tabs. */
function newMark (): string {
  return Math.floor(Math.random() * 2 ** 32).toString(2).replaceAll('0', ' ').replaceAll('1', '\t')
}

export interface PreparedStatement {
  readonly name: string
  readonly text: string
  readonly generation: number
  /**
   * `parsing`: its first answer has not arrived; `unknown`: the answer was an error, which does not show whether Parse
   * succeeded, or the statement may have been deallocated.
   */
  state: 'parsing' | 'ready' | 'unknown'
  /** Its columns; null: it has none; undefined: not known yet. */
  fields: FieldDef[] | null | undefined
  /** The number of its last use. */
  used: number
}

/** The part of a statement that decides whether it is prepared. */
export interface Preparable {
  readonly text: string
  /** The name that the user gave it. */
  readonly name: string | undefined
  /** Used often enough to be prepared without a name. */
  readonly automatic: boolean
  /**
   * It is a caller's statement. The plugin's own statements refer to built-in objects only, which no other object can
   * hide.
   */
  readonly describes: boolean
}

/**
 * The prepared statements of one connection: those that the user named, and up to `most` texts that are used often
 * (https://www.postgresql.org/docs/current/sql-prepare.html). A batch calls use() for each statement that it writes.
 */
export class PreparedStatements {
  /** The prefix of the names that the plugin chooses. */
  readonly #prefix = `scope_${ours}_${(++connections).toString(36)}_`
  readonly #named = new Map<string, PreparedStatement>()
  /** By text. */
  readonly #automatic = new Map<string, PreparedStatement>()
  readonly #most: number
  readonly #plans: Plans
  /** Uses of all statements, which order them by their last use. */
  #uses = 0
  /** Each transaction may run on another server connection, so nothing is known about a particular one. */
  readonly #shared: boolean
  /**
   * Whether the connection has ever had temporary objects, which hide others of the same name. PostgreSQL analyzes
   * prepared statements again after the first temporary object was created, but not after later ones.
   */
  #temporary: 'none' | 'possible' | 'some' = 'none'
  /** A statement would have been prepared if the answer were known, so the question is worth asking. */
  #wanted = false

  /** @param most how many texts may be prepared without a name given by the user */
  constructor (most: number, plans: Plans, shared: boolean) {
    this.#most = most
    this.#plans = plans
    this.#shared = shared
  }

  /** Whether to ask the server if names always refer to the same objects. */
  get asks (): boolean {
    return this.#wanted &&
      (this.#plans.oneSchema === undefined || (this.#plans.oneSchema && this.#temporary === 'possible'))
  }

  /** The answer to that question. */
  learned (oneSchema: boolean, temporary: boolean): void {
    this.#plans.oneSchema = oneSchema
    if (!this.#shared) this.#temporary = temporary ? 'some' : 'none'
  }

  /** Temporary objects may have been created. */
  unsettled (): void {
    if (!this.#shared && this.#temporary === 'none') this.#temporary = 'possible'
  }

  /** Whether names refer to the same objects as when they were parsed. */
  get #settled (): boolean {
    if (this.#plans.oneSchema === true && this.#temporary === 'none') return true
    this.#wanted = true
    return false
  }

  /** The statements that the user named, with their texts. */
  * named (): Iterable<[name: string, text: string]> {
    for (const [name, { text }] of this.#named) yield [name, text]
  }

  /** The prepared statement to bind, or null for the unnamed statement. Writes Parse if it is needed. */
  use ({ text, name, automatic, describes }: Preparable, messages: Messages): PreparedStatement | null {
    if (name !== undefined) return this.#prepare(this.#named, name, name, text, messages)
    if (!automatic || this.#most === 0 || (describes && !this.#settled)) return null
    return this.#automatically(text, messages)
  }

  /** The server has deallocated all of them, and no answer is outstanding. */
  cleared (): void {
    this.#named.clear()
    this.#automatic.clear()
  }

  /**
   * The server has deallocated one or all of them.
   *
   * @param ahead it will do so after everything that was sent so far
   */
  dropped (ahead = false): void {
    for (const statements of [this.#named, this.#automatic]) {
      // A statement whose Parse follows will exist.
      for (const statement of statements.values()) if (ahead || statement.state === 'ready') statement.state = 'unknown'
    }
  }

  /** The plan no longer fits its table. The first connection that notices it makes all connections prepare again. */
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
    if (this.#automatic.size < this.#most) {
      return this.#prepare(this.#automatic, text, this.#prefix + this.#automatic.size.toString(36), text, messages)
    }
    // The new statement takes over the name, so the old one is closed by the next Parse even if this batch fails
    // before.
    const oldest = this.#oldest
    if (oldest.state === 'parsing') return null
    this.#automatic.delete(oldest.text)
    messages.close(oldest.name)
    return this.#prepare(this.#automatic, text, oldest.name, text, messages)
  }

  /** Searched only when one has to make room: keeping them in order would cost time on every use. */
  get #oldest (): PreparedStatement {
    let oldest: PreparedStatement | undefined
    for (const statement of this.#automatic.values()) {
      if (oldest === undefined || statement.used < oldest.used) {
        oldest = statement
      }
    }
    return oldest!
  }

  #prepare (
    statements: Map<string, PreparedStatement>, key: string, name: string, text: string, messages: Messages
  ): PreparedStatement | null {
    const known = statements.get(key)
    const { generation, mark } = this.#plans
    if (known !== undefined) {
      // It is not known yet whether Parse will succeed.
      if (known.state === 'parsing') return null
      if (known.state === 'ready' && known.text === text && known.generation === generation) return known
      // Closing a name that does not exist is no error. PgBouncer rejects a second Parse of a name whose first one
      // failed.
      messages.close(name)
    }
    messages.parse(name, text + (mark ?? ''))
    const statement: PreparedStatement = {
      name, text, generation, state: 'parsing', fields: undefined, used: ++this.#uses
    }
    statements.set(key, statement)
    return statement
  }
}
