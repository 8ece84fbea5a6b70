const noop = (): void => {}

/**
 * A promise that is rejected, and whose rejection is nobody's fault if nobody listens: a handler that goes on after its client
 * has gone starts several statements, and awaits only the first.
 */
export function rejected (error: unknown): Promise<never> {
  const promise = Promise.reject(error)
  promise.catch(noop)
  return promise
}
