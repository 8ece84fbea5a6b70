import { errorFields } from './frames.ts'
import type { ServerConnection } from './server-connection.ts'

/** Everything between two ends of a client's transactions happens in this savepoint. */
const savepoint = 'pg_scope_sandbox'

/** To the defaults of the login. It undoes SET LOCAL too, which a RELEASE would leave to the outer transaction. */
const resetSettings = 'RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL'

/** Constraints that are deferrable and checked at once by default. */
const immediateConstraints =
  'SELECT pg_catalog.string_agg(connamespace::pg_catalog.regnamespace || ' +
  'pg_catalog.format(\'.%I\', conname), \', \') FROM pg_catalog.pg_constraint ' +
  'WHERE condeferrable AND NOT condeferred ' +
  'AND NOT pg_catalog.pg_is_other_temp_schema(connamespace) ' +
  'AND pg_catalog.has_schema_privilege(connamespace, \'USAGE\')'

/** What DISCARD ALL does (https://www.postgresql.org/docs/current/sql-discard.html), which no transaction accepts. */
const discardAll = 'CLOSE ALL;DEALLOCATE ALL;UNLISTEN *;SELECT pg_catalog.pg_advisory_unlock_all();' +
  'DISCARD PLANS;DISCARD TEMP;DISCARD SEQUENCES'

/** Leaves what was done in the savepoint to the outer transaction, and sets the savepoint again. */
const next = `RELEASE SAVEPOINT ${savepoint};SAVEPOINT ${savepoint}`

const isolation = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'

/**
 * The transaction in which everything of a sandbox happens, and which is never committed.
 *
 *     BEGIN ─► SAVEPOINT ─► session A ─► RELEASE, SAVEPOINT ─► session B ─► ROLLBACK TO ─► session C ─► …
 *              begin()                   commit()                          rollback()
 *
 * A savepoint is always open, so that no failure reaches the outer transaction. The methods require that the server
 * is idle, and reject when the connection is lost.
 */
export class OuterTransaction {
  readonly server: ServerConnection
  /** The server's default for a transaction that does not say so itself. */
  readOnlyByDefault = false
  /** Settings of the outer transaction, which is idle between two sessions for as long as it likes. */
  readonly #settings: string

  constructor (server: ServerConnection) {
    this.server = server
    const limits = ['idle_in_transaction_session_timeout']
    if (Number.parseInt(server.parameters.get('server_version') ?? '') >= 17) limits.push('transaction_timeout')
    this.#settings = limits.map((name) => `SET LOCAL ${name} = 0`).join(';')
  }

  async begin (first = ''): Promise<void> {
    const readOnly = 'SELECT pg_catalog.current_setting(\'default_transaction_read_only\')'
    const { error, rows } = await this.server.query(
      `${first}${isolation};${this.#settings};SAVEPOINT ${savepoint};${readOnly}`
    )
    if (error !== null) throw new Error(errorFields(error).M)
    this.server.isInTransaction = true
    this.readOnlyByDefault = rows.at(-1) === 'on'
  }

  /** Undoes everything, and begins anew. */
  async restart (): Promise<void> {
    await this.begin('ROLLBACK;')
  }

  /**
   * The end of a client's transaction. Deferred constraints are checked, and what a transaction leaves to no other one
   * is undone: modes of constraints, cursors, settings.
   *
   * @param dropsTables there are temporary tables that COMMIT drops
   * @returns the error that prevents it, or null. The work is undone then
   */
  async commit (dropsTables: boolean): Promise<Buffer | null> {
    const checks = 'SET CONSTRAINTS ALL IMMEDIATE;SET CONSTRAINTS ALL DEFERRED;CLOSE ALL'
    return await this.#end(dropsTables ? `${checks};DISCARD TEMP` : checks)
  }

  /** The end of a client, or DISCARD ALL: undoes what its session has left on the connection. */
  async discard (): Promise<void> {
    await this.#end(discardAll)
  }

  async #end (statements: string): Promise<Buffer | null> {
    const { error, rows } = await this.server.query(
      `${statements};${resetSettings};${this.#settings};${immediateConstraints};${next}`
    )
    if (error !== null) await this.rollback()
    else if (rows.at(-1) !== null) {
      const last = await this.server.query(`SET CONSTRAINTS ${rows.at(-1)} IMMEDIATE;${next}`)
      if (last.error !== null) await this.rollback()
    }
    return error
  }

  async rollback (): Promise<void> {
    await this.server.query(`ROLLBACK TO SAVEPOINT ${savepoint}`)
  }
}
