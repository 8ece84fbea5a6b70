import type { PoolClient } from 'pg'
import { targetOf, type LibrarySource } from '../library-source.ts'
import { clientOf } from '../pg/index.ts'
import type { QueryArrayResult, StatementConfig } from '../../types/query.ts'
import { adapterErrorOf } from './adapter-error.ts'
import { valueOf } from './arguments.ts'
import { columnTypeOf } from './column-types.ts'
import type {
  AdapterIsolation, AdapterTransaction, DriverAdapter, SqlQuery, SqlResultSet
} from './driver-adapter.ts'
import { types } from './result-parsers.ts'

export const adapterName = 'fastify-pg-scope/prisma'

/** What sends statements: a session, an engine, or a client of pg in a transaction. */
interface Target {
  query (config: StatementConfig & { rowMode: 'array' }): Promise<QueryArrayResult>
}

abstract class SessionQueryable {
  readonly provider = 'postgres'
  readonly adapterName = adapterName
  protected abstract target (): Target

  async queryRaw (query: SqlQuery): Promise<SqlResultSet> {
    const { fields, rows } = await this.#send(query)
    return {
      columnNames: fields.map(({ name }) => name),
      columnTypes: fields.map(({ dataTypeID }) => columnTypeOf(dataTypeID)),
      rows
    }
  }

  async executeRaw (query: SqlQuery): Promise<number> {
    return (await this.#send(query)).rowCount ?? 0
  }

  #send ({ sql, args, argTypes }: SqlQuery): Promise<QueryArrayResult> {
    const values = args.map((argument, index) => valueOf(argument, argTypes[index]))
    return mapped(() => this.target().query({ text: sql, values, rowMode: 'array', types }))
  }
}

/** What Prisma takes for its connections: statements run where the source says, transactions too. */
export class SessionAdapter extends SessionQueryable implements DriverAdapter {
  readonly #source: LibrarySource
  readonly #schema: string | undefined

  constructor (source: LibrarySource, schema: string | undefined) {
    super()
    this.#source = source
    this.#schema = schema
  }

  protected target (): Target {
    return targetOf(this.#source)
  }

  /** The client keeps to the session, or engine, on which the transaction was begun. */
  async startTransaction (isolation?: AdapterIsolation): Promise<AdapterTransaction> {
    return await mapped(async () => {
      const client = clientOf(targetOf(this.#source))
      await client.query(isolation === undefined ? 'BEGIN' : `BEGIN ISOLATION LEVEL ${isolation}`)
      return new SessionTransaction(client)
    })
  }

  async executeScript (script: string): Promise<void> {
    await mapped(() => clientOf(targetOf(this.#source)).query(script))
  }

  getConnectionInfo (): { schemaName?: string, supportsRelationJoins: boolean } {
    return { ...(this.#schema === undefined ? {} : { schemaName: this.#schema }), supportsRelationJoins: true }
  }

  /** The session ends with its request, and the engine with the app. */
  async dispose (): Promise<void> {}
}

class SessionTransaction extends SessionQueryable implements AdapterTransaction {
  readonly options = { usePhantomQuery: true }
  readonly #client: PoolClient

  constructor (client: PoolClient) {
    super()
    this.#client = client
  }

  protected target (): Target {
    return this.#client as Target
  }

  commit = (): Promise<void> => this.#control('COMMIT')
  rollback = (): Promise<void> => this.#control('ROLLBACK')
  createSavepoint = (name: string): Promise<void> => this.#control(`SAVEPOINT ${name}`)
  rollbackToSavepoint = (name: string): Promise<void> => this.#control(`ROLLBACK TO SAVEPOINT ${name}`)
  releaseSavepoint = (name: string): Promise<void> => this.#control(`RELEASE SAVEPOINT ${name}`)

  async #control (command: string): Promise<void> {
    await mapped(() => this.#client.query(command))
  }
}

async function mapped<T> (call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw adapterErrorOf(error)
  }
}
