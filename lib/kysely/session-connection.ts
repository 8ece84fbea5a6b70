import type { CompiledQuery, ConnectionProvider, DatabaseConnection, Log, QueryResult } from 'kysely'
import { isEngine, type LibrarySource, targetOf } from '../library-source.ts'
import type { Session } from '../../types/session.ts'

/** The commands whose row count Kysely reports as `numAffectedRows`. */
const changing: readonly string[] = ['INSERT', 'UPDATE', 'DELETE', 'MERGE']

/**
 * What Kysely takes for a connection. Statements reach the session in the turn in which they were called, and do not
 * wait for each other: the session keeps their order.
 */
export class SessionConnection implements DatabaseConnection, ConnectionProvider {
  readonly source: LibrarySource
  readonly log: Log | null
  /** Stops the statement of a call with a signal; undefined where it cannot be needed. */
  #controller: AbortController | undefined

  constructor (source: LibrarySource, log: Log | null) {
    this.source = source
    this.log = log
  }

  provideConnection<T> (
    consumer: (connection: DatabaseConnection) => Promise<T>, options?: { signal?: AbortSignal }
  ): Promise<T> {
    return consumer(options?.signal === undefined ? this : new SessionConnection(this.source, this.log))
  }

  executeQuery<R> (query: CompiledQuery): Promise<QueryResult<R>> {
    return this.log === null ? this.#execute(query) : this.#logged(query, this.log)
  }

  async #execute<R> ({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const signal = this.#controller?.signal
    const target = targetOf(this.source)
    const result = await (signal === undefined
      ? target.query(sql, parameters)
      : target.query({ text: sql, values: parameters, signal }))
    const { command, rowCount, rows } = result
    // A text of several statements has several results, and no rows here: as with Kysely's own driver.
    return changing.includes(command) ? { numAffectedRows: BigInt(rowCount ?? 0), rows } : { rows: rows ?? [] }
  }

  async * streamQuery<R> (query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    const started = performance.now()
    try {
      yield * this.#chunks<R>(query, chunkSize)
    } catch (error) {
      await this.#logError(query, started, error)
      throw error
    }
    await this.#logQuery(query, started, true)
  }

  async * #chunks<R> (query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    const target = targetOf(this.source)
    if (!isEngine(target)) return yield * chunksOf<R>(target, query, chunkSize)
    await using session = target.session()
    yield * chunksOf<R>(session, query, chunkSize)
    await session.commit()
  }

  /** Called in front of a statement that an abort must be able to stop. */
  async collectSessionInfo (): Promise<void> {
    this.#controller = new AbortController()
  }

  /** For `inflightQueryAbortStrategy: 'cancel query'`. */
  async cancelQuery (): Promise<void> {
    this.#controller?.abort()
  }

  async #logged<R> (query: CompiledQuery, log: Log): Promise<QueryResult<R>> {
    const started = performance.now()
    let result: QueryResult<R>
    try {
      result = await this.#execute(query)
    } catch (error) {
      await this.#logError(query, started, error)
      throw error
    }
    await this.#logQuery(query, started, false)
    return result
  }

  async #logQuery (query: CompiledQuery, started: number, isStream: boolean): Promise<void> {
    await this.log?.query(() => ({ level: 'query', isStream, query, queryDurationMillis: performance.now() - started }))
  }

  async #logError (query: CompiledQuery, started: number, error: unknown): Promise<void> {
    await this.log?.error(() => ({ level: 'error', error, query, queryDurationMillis: performance.now() - started }))
  }
}

async function * chunksOf<R> (
  session: Session, { sql, parameters }: CompiledQuery, chunkSize: number
): AsyncIterableIterator<QueryResult<R>> {
  let rows: R[] = []
  for await (const row of session.stream<R>(sql, parameters, { batchSize: chunkSize })) {
    if (rows.push(row) < chunkSize) continue
    yield { rows }
    rows = []
  }
  if (rows.length > 0) yield { rows }
}
