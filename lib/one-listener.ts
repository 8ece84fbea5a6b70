import type { Socket } from 'node:net'

/** Callbacks by the signal or socket that they wait for, which has one listener for all of them. */
const waiting = new WeakMap<AbortSignal | Socket, Set<() => void>>()

/**
 * Calls back when a signal aborts or a socket closes. Each target gets one listener, however many wait for it: from the eleventh on Node
 * would warn of a leak.
 *
 * @returns stops waiting
 */
export function whenOver (target: AbortSignal | Socket, callback: () => void): () => void {
  const callbacks = waiting.get(target) ?? listen(target)
  // One caller may wait several times.
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
