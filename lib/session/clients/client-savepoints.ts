import { isIdentifier } from '../../postgres/identifier.ts'
import { noSavepoint } from './client-errors.ts'
import type { ClientTurns } from './client-turns.ts'
import { Savepoint } from '../savepoint.ts'
import { releaseSavepoint, type SavepointHost, undoSavepoint } from '../savepoint-ends.ts'

/** The savepoints of a client's transaction by the names that its client gives them: the last one of a name counts. */
export class ClientSavepoints {
  readonly #host: SavepointHost
  readonly #turns: ClientTurns
  /** The transaction itself first: SAVEPOINT may have begun it. */
  #all: { readonly name: string | null, readonly savepoint: Savepoint }[] = []

  constructor (host: SavepointHost, turns: ClientTurns) {
    this.#host = host
    this.#turns = turns
  }

  /** Opens a savepoint, in turn. @param name null: the client cannot name it */
  enter (savepoint: Savepoint, name: string | null): void {
    // Where SAVEPOINT alone begins a transaction, ROLLBACK TO needs it beside BEGIN.
    if (name !== null) savepoint.isOnServer = true
    this.#host.savepoints.open(savepoint, isIdentifier(name) ? name : undefined)
    this.#all.push({ name, savepoint })
  }

  /** SAVEPOINT */
  open (name: string): Promise<void> {
    const { savepoints, hooks } = this.#host
    const savepoint = new Savepoint(savepoints)
    savepoint.hooks = hooks.count
    return this.#turns.make(() => {
      const failure = this.#host.failure()
      if (failure !== null) throw failure
      this.enter(savepoint, name)
    })
  }

  /** @throws FST_PG_SCOPE_SESSION_STATE: the session fails, as in PostgreSQL */
  find (name: string): Savepoint {
    this.#all = this.#all.filter(({ savepoint }) => !savepoint.isEnded)
    const found = this.#all.findLast((each) => each.name === name)
    if (found !== undefined) return found.savepoint
    const error = noSavepoint()
    this.#host.fail(error)
    throw error
  }

  /** RELEASE */
  async release (savepoint: Savepoint): Promise<void> {
    const { savepoints } = this.#host
    savepoints.endOpen(savepoint.unawaited, savepoint)
    await releaseSavepoint(this.#host, savepoint)
    if (!savepoint.isEnded) savepoints.leave(savepoint)
  }

  /** ROLLBACK TO. The savepoint stays open. */
  async undo (savepoint: Savepoint): Promise<void> {
    this.#host.savepoints.endOpen(null, savepoint)
    savepoint.unawaited.clear()
    await undoSavepoint(this.#host, savepoint, undefined, true)
    // It was released on the server: SAVEPOINT travels with the next statement again.
    savepoint.sentIn = null
  }
}
