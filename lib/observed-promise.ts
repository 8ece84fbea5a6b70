const noop = (): void => {}

/**
 * A promise that records whether its caller uses it: `await` and Promise.all() call `then` of a promise that is an
 * instance of a subclass (https://tc39.es/ecma262/#sec-promise-resolve). A failure that the caller handles is thereby
 * distinguished from one that it ignores.
 */
export class ObservedPromise<T> extends Promise<T> {
  /** The promise is awaited or has a handler. */
  observed = false

  /** then() returns a plain promise. */
  static override get [Symbol.species] (): PromiseConstructor {
    return Promise
  }

  override then<A = T, B = never> (
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: any) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    this.observed = true
    return super.then(onFulfilled, onRejected)
  }

  /** The failure is reported in another way, so it must not be an unhandled rejection. */
  silence (): void {
    super.then(undefined, noop)
  }
}

/**
 * Failures of calls that no caller has awaited so far. They fail the enclosing transaction unless they are awaited
 * before it ends.
 */
export class UnawaitedFailures {
  #failures: { readonly promise: ObservedPromise<unknown>, readonly error: unknown }[] = []

  add (promise: ObservedPromise<unknown>, error: unknown): void {
    if (!promise.observed) this.#failures.push({ promise, error })
  }

  /**
   * The first failure that is still not awaited, or null. It is wrapped in an object because any value can be thrown.
   */
  get first (): { readonly error: unknown } | null {
    return this.#failures.find(({ promise }) => !promise.observed) ?? null
  }

  /** Appends the failures of another list, which is empty afterwards. */
  takeFrom (others: UnawaitedFailures): void {
    for (const failure of others.#failures) this.#failures.push(failure)
    others.clear()
  }

  /** The promise is no failure any more. */
  delete (promise: ObservedPromise<unknown>): void {
    const index = this.#failures.findLastIndex((failure) => failure.promise === promise)
    if (index !== -1) this.#failures.splice(index, 1)
  }

  clear (): void {
    this.#failures = []
  }
}
