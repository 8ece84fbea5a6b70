import { AsyncResource } from 'node:async_hooks'

/**
 * Binds a function to the async context of the running code. AsyncResource.bind() does the same, but defines properties
 * on the function that it returns: V8 then promotes that function, and with it the whole session, to the old
 * generation.
 */
export function bindToContext<T> (fn: () => T): () => T {
  const resource = new AsyncResource('fastify-pg-scope', { requireManualDestroy: true })
  return () => resource.runInAsyncScope(fn)
}
