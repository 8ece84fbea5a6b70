import { ControlledTransaction, type DatabaseConnection, type Driver, type KyselyProps } from 'kysely'
import { beginSavepoint, isEngine, targetOf, type TransactionModes } from '../library-source.ts'
import type { OwnedSession, Savepoint, Session } from '../../types/session.ts'
import { noDriver } from './dialect.ts'
import { SessionConnection } from './session-connection.ts'

/** What `db.startTransaction()` begins: a savepoint of the session, or a session of its own on an engine. */
export async function beginControlled (
  { source, log }: SessionConnection, props: KyselyProps, modes: TransactionModes
): Promise<ControlledTransaction<any>> {
  const target = targetOf(source)
  const session = isEngine(target) ? target.session({ ...modes, mode: 'transaction' }) : target
  const transaction = isEngine(target) ? wholeOf(session as OwnedSession) : await beginSavepoint(session, modes)
  const connection = new SessionConnection(session, log)
  return new ControlledTransaction({
    ...props,
    executor: props.executor.withConnectionProvider(connection),
    driver: new ControlledDriver(session, transaction),
    connection: { connection, release: () => {} },
    transactionState: { status: 'active' }
  })
}

/** The beginning and the end of a transaction, as a savepoint has them. */
type Ends = Pick<Savepoint, 'release'> & AsyncDisposable

function wholeOf (session: OwnedSession): Ends {
  return {
    async release () {
      try {
        await session.commit()
      } finally {
        await session.close()
      }
    },
    [Symbol.asyncDispose]: () => session.close()
  }
}

/** Kysely's commands on one controlled transaction, as calls on its savepoints. */
class ControlledDriver implements Driver {
  readonly init = noDriver.init
  readonly acquireConnection = noDriver.acquireConnection
  readonly beginTransaction = noDriver.beginTransaction
  readonly releaseConnection = noDriver.releaseConnection
  readonly destroy = noDriver.destroy
  readonly #session: Session
  readonly #transaction: Ends
  /** Those inside of the transaction, outermost first. */
  #savepoints: Savepoint[] = []

  constructor (session: Session, transaction: Ends) {
    this.#session = session
    this.#transaction = transaction
  }

  async commitTransaction (): Promise<void> {
    await this.#release(0)
    await this.#transaction.release()
  }

  async rollbackTransaction (): Promise<void> {
    await this.#transaction[Symbol.asyncDispose]()
  }

  async savepoint (_connection: DatabaseConnection, name: string): Promise<void> {
    this.#savepoints.push(await this.#session.savepoint(name))
  }

  /** In SQL the savepoint still exists after ROLLBACK TO; on a session it has ended, and another takes its place. */
  async rollbackToSavepoint (connection: DatabaseConnection, name: string): Promise<void> {
    const index = this.#indexOf(name)
    for (const savepoint of this.#savepoints.splice(index).reverse()) await savepoint.rollback()
    await this.savepoint(connection, name)
  }

  async releaseSavepoint (_connection: DatabaseConnection, name: string): Promise<void> {
    await this.#release(this.#indexOf(name))
  }

  async #release (from: number): Promise<void> {
    while (this.#savepoints.length > from) {
      await this.#savepoints.at(-1)!.release()
      this.#savepoints.pop()
    }
  }

  #indexOf (name: string): number {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
    if (index === -1) throw new Error(`The savepoint "${name}" does not exist, or has been released or rolled back.`)
    return index
  }
}
