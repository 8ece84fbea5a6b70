// The app of one subject, in a process of its own: what the load costs is not taken from it.
import { constants, PerformanceObserver, type NodeGCPerformanceDetail, type PerformanceEntry } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import type { AddressInfo } from 'node:net'
import type { NodeSubjectName, Setup } from './subject.ts'
import { listen } from './subject-app.ts'

const app = await listen(...JSON.parse(process.argv[2]!) as [NodeSubjectName, Setup])

/** Both in microseconds. */
export interface CpuTime {
  used: number
  at: number
}

export interface Heap {
  /** Bytes. */
  used: number
  /** How often garbage was collected without having been asked for, since `collect` was first. */
  collections: number
}

let observer: PerformanceObserver | undefined
let collections = 0
const count = (entries: PerformanceEntry[]): void => {
  for (const { detail } of entries as (PerformanceEntry & { detail: NodeGCPerformanceDetail })[]) {
    if ((detail.flags! & constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) === 0) collections++
  }
}

const answers = {
  cpu (): CpuTime {
    const { user, system } = process.cpuUsage()
    return { used: user + system, at: performance.now() * 1000 }
  },
  collect (): Heap {
    if (observer === undefined) {
      observer = new PerformanceObserver((list) => count(list.getEntries()))
      observer.observe({ entryTypes: ['gc'] })
    }
    globalThis.gc!()
    return answers.look()
  },
  look (): Heap {
    count(observer!.takeRecords())
    return { used: getHeapStatistics().used_heap_size, collections }
  }
}
export type Question = keyof typeof answers

process.on('message', (question: Question) => { process.send!(answers[question]()) })
// An orphan would stay for ever.
process.on('disconnect', () => process.exit())
process.send!((app.server.address() as AddressInfo).port)
