import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface Sample {
  /** Requests so far. */
  requests: number
  /** Bytes of JavaScript heap that a full collection leaves. */
  heap: number
  /** Sockets, timers and the like, by type. */
  resources: Record<string, number>
}

/** Works with and without --expose-gc. */
function collector (): () => void {
  if (globalThis.gc) return globalThis.gc as () => void
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}

const collect = collector()

export async function sample (requests: number): Promise<Sample> {
  // Finalizers and weak references free more with each round.
  for (let i = 0; i < 4; i++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { heapUsed } = process.memoryUsage()
  const resources: Record<string, number> = {}
  for (const type of process.getActiveResourcesInfo()) resources[type] = (resources[type] ?? 0) + 1
  return { requests, heap: heapUsed, resources }
}

/**
 * Bytes for each request: the median of the slopes between all pairs (Theil and Sen), which one odd sample does not
 * move.
 */
export function slope (samples: readonly Sample[]): number {
  const slopes: number[] = []
  for (const [i, a] of samples.entries()) {
    for (const b of samples.slice(i + 1)) slopes.push((b.heap - a.heap) / (b.requests - a.requests))
  }
  slopes.sort((a, b) => a - b)
  const middle = slopes.length >> 1
  return slopes.length % 2 === 1 ? slopes[middle]! : (slopes[middle - 1]! + slopes[middle]!) / 2
}
