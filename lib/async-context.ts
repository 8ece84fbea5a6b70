import { AsyncResource } from 'node:async_hooks'

/** Runs a function in the async context in which it was made. */
export type InContext = <T>(fn: () => T) => T

/**
 * The async context of the running code. AsyncLocalStorage.snapshot() and AsyncResource.bind() do the same, but define
 * properties on the function that they return: that is slow, and V8 then promotes that function, and with it the whole
 * session, to the old generation.
 */
export function currentContext (): InContext {
  const resource = new AsyncResource('fastify-pg-scope', { requireManualDestroy: true })
  return (fn) => resource.runInAsyncScope(fn)
}

/** Binds a function to the async context of the running code. */
export function bindToContext<T> (fn: () => T): () => T {
  const inContext = currentContext()
  return () => inContext(fn)
}
