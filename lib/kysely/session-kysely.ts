import {
  type AccessMode, ConnectionBuilder, type ControlledTransaction, ControlledTransactionBuilder, DefaultQueryExecutor,
  type IsolationLevel, Kysely, type KyselyConfig, type KyselyPlugin, type KyselyProps, Log, PostgresDialect,
  type QueryExecutor, Transaction, TransactionBuilder
} from 'kysely'
import { isEngine, type LibrarySource, runTransaction, targetOf, type TransactionModes } from '../library-source.ts'
import type { RawClient } from '../../types/engine.ts'
import { beginControlled } from './controlled-transaction.ts'
import { adapter, compiler, dialect, noDriver } from './dialect.ts'
import type { KyselyOptions } from './options.ts'
import { SessionConnection } from './session-connection.ts'

/** Of Kysely's instances, those whose transactions are the session's. */
export class SessionKysely<DB> extends Kysely<DB> {
  readonly #connection: SessionConnection
  readonly #props: KyselyProps

  constructor (connection: SessionConnection, config: KyselyConfig, executor: QueryExecutor) {
    const props = { config, dialect, driver: noDriver, executor }
    super(props)
    this.#connection = connection
    this.#props = props
  }

  static of<DB> (source: LibrarySource, { plugins, log }: KyselyOptions): SessionKysely<DB> {
    const connection = new SessionConnection(source, log === undefined ? null : new Log(log))
    const config = { dialect, ...(log === undefined ? {} : { log }) }
    return new SessionKysely(connection, config, new DefaultQueryExecutor(compiler, adapter, connection, plugins))
  }

  override transaction (): TransactionBuilder<DB> {
    return new SessionTransactionBuilder(new TransactionPlan(this.#connection, this.#props))
  }

  override startTransaction (): ControlledTransactionBuilder<DB> {
    return new SessionControlledBuilder(new TransactionPlan(this.#connection, this.#props))
  }

  override connection (): ConnectionBuilder<DB> {
    return new SessionConnectionBuilder(this.#connection, this.#props, this)
  }

  override withPlugin (plugin: KyselyPlugin): Kysely<DB> {
    return this.#with(super.withPlugin(plugin))
  }

  override withoutPlugins (): Kysely<DB> {
    return this.#with(super.withoutPlugins())
  }

  override withSchema (schema: string): Kysely<DB> {
    return this.#with(super.withSchema(schema))
  }

  // These four change types alone.
  override withTables (): any { return this }
  override $extendTables (): any { return this }
  override $omitTables (): any { return this }
  override $pickTables (): any { return this }

  #with (changed: Kysely<DB>): SessionKysely<DB> {
    return new SessionKysely(this.#connection, this.#props.config, changed.getExecutor())
  }
}

/** What the builder of a transaction knows, and the modes that it was asked for. */
class TransactionPlan {
  readonly connection: SessionConnection
  readonly props: KyselyProps
  readonly modes: TransactionModes

  constructor (connection: SessionConnection, props: KyselyProps, modes: TransactionModes = {}) {
    this.connection = connection
    this.props = props
    this.modes = modes
  }

  withAccess (mode: AccessMode): TransactionPlan {
    return this.#with({ readOnly: mode === 'read only' })
  }

  /** `snapshot` is not PostgreSQL's, and is rejected where the transaction begins. */
  withIsolation (isolation: IsolationLevel): TransactionPlan {
    return this.#with({ isolation } as TransactionModes)
  }

  #with (modes: TransactionModes): TransactionPlan {
    return new TransactionPlan(this.connection, this.props, { ...this.modes, ...modes })
  }
}

class SessionTransactionBuilder<DB> extends TransactionBuilder<DB> {
  readonly #plan: TransactionPlan

  constructor (plan: TransactionPlan) {
    super(plan.props)
    this.#plan = plan
  }

  override setAccessMode (mode: AccessMode): TransactionBuilder<DB> {
    return new SessionTransactionBuilder(this.#plan.withAccess(mode))
  }

  override setIsolationLevel (isolation: IsolationLevel): TransactionBuilder<DB> {
    return new SessionTransactionBuilder(this.#plan.withIsolation(isolation))
  }

  /** The callback runs inside of transaction(fn), so calls on the outer instance belong to the transaction too. */
  override execute<T> (callback: (trx: Transaction<DB>) => Promise<T>): Promise<T> {
    const { connection: { source, log }, props, modes } = this.#plan
    return runTransaction(source, modes, (session) => {
      const connection = new SessionConnection(session, log)
      return callback(new Transaction({ ...props, executor: props.executor.withConnectionProvider(connection) }))
    })
  }
}

class SessionControlledBuilder<DB> extends ControlledTransactionBuilder<DB> {
  readonly #plan: TransactionPlan

  constructor (plan: TransactionPlan) {
    super(plan.props)
    this.#plan = plan
  }

  override setAccessMode (mode: AccessMode): ControlledTransactionBuilder<DB> {
    return new SessionControlledBuilder(this.#plan.withAccess(mode))
  }

  override setIsolationLevel (isolation: IsolationLevel): ControlledTransactionBuilder<DB> {
    return new SessionControlledBuilder(this.#plan.withIsolation(isolation))
  }

  override async execute (): Promise<ControlledTransaction<DB>> {
    const { connection, props, modes } = this.#plan
    return beginControlled(connection, props, modes)
  }
}

class SessionConnectionBuilder<DB> extends ConnectionBuilder<DB> {
  readonly #connection: SessionConnection
  readonly #props: KyselyProps
  readonly #db: Kysely<DB>

  constructor (connection: SessionConnection, props: KyselyProps, db: Kysely<DB>) {
    super(props)
    this.#connection = connection
    this.#props = props
    this.#db = db
  }

  /** A session has one connection at a time anyway. An engine leases one, on which Kysely's own dialect works. */
  override async execute<T> (callback: (db: Kysely<DB>) => Promise<T>): Promise<T> {
    const target = targetOf(this.#connection.source)
    if (!isEngine(target)) return callback(this.#db)
    return target.lease((client) => {
      const { config, executor: { plugins } } = this.#props
      const dialect = new PostgresDialect({ pool: poolOf(client) })
      return callback(new Kysely<DB>({ ...config, dialect, plugins: [...plugins] }))
    })
  }
}

/** As much of a pool as Kysely's dialect needs, with one connection. */
function poolOf (client: RawClient): any {
  const release = (): void => {}
  const connect = async (): Promise<unknown> => ({ query: client.query.bind(client), release })
  return { connect, end: async () => {} }
}
