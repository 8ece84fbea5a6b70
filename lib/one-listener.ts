import type { Socket } from 'node:net'

/** The callbacks of each signal or socket, which has one listener for all of them. */
const waiting = new WeakMap<AbortSignal | Socket, Set<() => void>>()

/**
 * Calls back when a signal aborts or a socket closes. A target has one listener for all callbacks, because Node
 * warns about a leak when an event has more than ten listeners.
 *
 * @returns a function that removes the callback
 */
export function whenOver (target: AbortSignal | Socket, callback: () => void): () => void {
  const callbacks = waiting.get(target) ?? listen(target)
  // A function of its own: the same callback may be registered more than once.
  const once = (): void => callback()
  callbacks.add(once)
  return () => { callbacks.delete(once) }
}

function listen (target: AbortSignal | Socket): Set<() => void> {
  const callbacks = new Set<() => void>()
  waiting.set(target, callbacks)
  const over = (): void => {
    waiting.delete(target)
    for (const callback of callbacks) callback()
  }
  if (target instanceof AbortSignal) target.addEventListener('abort', over, { once: true })
  else target.once('close', over)
  return callbacks
}
