const noop = (): void => {}

/**
 * A rejected promise that is never an unhandled rejection: a handler that continues after its client has disconnected
 * starts several statements, and awaits only the first.
 */
export function rejected (error: unknown): Promise<never> {
  const promise = Promise.reject(error)
  promise.catch(noop)
  return promise
}
