const noop = (): void => {}

/**
 * A promise that knows whether its caller does anything with it: `await` and Promise.all() call `then` of a promise that is not a
 * plain one (https://tc39.es/ecma262/#sec-promise-resolve). So a failure that was handled can be told from one that was not.
 */
export class ObservedPromise<T> extends Promise<T> {
  /** Somebody awaits it, or has attached a handler. */
  observed = false

  /** What then() returns is a plain promise. */
  static override get [Symbol.species] (): PromiseConstructor {
    return Promise
  }

  override then<A = T, B = never> (onFulfilled?: ((value: T) => A | PromiseLike<A>) | null, onRejected?: ((reason: any) => B | PromiseLike<B>) | null): Promise<A | B> {
    this.observed = true
    return super.then(onFulfilled, onRejected)
  }

  /** Its failure is told in another way: it is no unhandled rejection. */
  silence (): void {
    super.then(undefined, noop)
  }
}

/** The failures of calls that nobody has observed so far. Whatever is around them fails by them, unless they are observed before it ends. */
export class UnawaitedFailures {
  #failures: { readonly promise: ObservedPromise<unknown>, readonly error: unknown }[] = []

  add (promise: ObservedPromise<unknown>, error: unknown): void {
    if (!promise.observed) this.#failures.push({ promise, error })
  }

  /** The first that nobody has observed, in an object because anything can be thrown; null where there is none. */
  get first (): { readonly error: unknown } | null {
    return this.#failures.find(({ promise }) => !promise.observed) ?? null
  }

  clear (): void {
    this.#failures = []
  }
}
