import { AsyncLocalStorage } from 'node:async_hooks'

const contexts = new AsyncLocalStorage<ClientContext | undefined>()

/** The context, or the first one around it, that is not over. */
function open (context: ClientContext | null): ClientContext | null {
  while (context?.isOver === true) context = context.around
  return context
}

function innermost (): ClientContext | null {
  return open(contexts.getStore() ?? null)
}

/**
 * The code that called BEGIN, and what it awaits: it is inside of a client's transaction. Other code may be, too,
 * because many libraries lose the async context.
 */
export class ClientContext {
  around: ClientContext | null = innermost()
  /** Calls of the client all came from within. */
  isReliable = true
  isOver = false
  /** Where transactions were begun that have committed inside of this one, and were not begun within. */
  readonly #beside = new Set<ClientContext | null>()

  /** From now on the running code is within. */
  enter (): void {
    contexts.enterWith(this)
  }

  /** The transaction has ended. A long chain of such contexts must not stay alive. */
  end (): void {
    this.isOver = true
    this.around = open(this.around)
  }

  /** A call of the client. */
  called (): void {
    this.isReliable &&= this.#encloses(innermost())
  }

  #encloses (context: ClientContext | null): boolean {
    while (context !== null && context !== this) context = context.around
    return context === this
  }

  /** The transaction has committed inside of another one, whose rollback would undo it. */
  committedIn (other: ClientContext): void {
    for (const around of [this.around, ...this.#beside]) if (!other.#encloses(around)) other.#beside.add(around)
  }

  /** Its rollback has undone transactions that had nothing to do with it. */
  get undoesOthers (): boolean {
    return this.isReliable && this.#beside.size > 0
  }
}
