import { setTimeout as sleep } from 'node:timers/promises'
import type { PgProxy } from '../pg-proxy.ts'
import type { TestPooler } from '../pooler.ts'
import type { Scene } from '../reliability/event.ts'
import { badDays } from '../reliability/events/index.ts'
import type { AppProcess } from './app-process.ts'
import type { Disk } from './disk.ts'

/** What faults work on. */
export interface Stage extends Scene {
  /** Between the app and what it is connected to. */
  readonly proxy: PgProxy
  readonly app: AppProcess
  /** The pooler other than PgBouncer. */
  readonly pooler: TestPooler | null
  /** The small disk with the tables. */
  readonly disk: Disk | null
  /** The standby takes over from a primary that stops. */
  failOver (): Promise<void>
}

/** What there is, which decides what can break. */
export interface Setup {
  pooler: 'PgBouncer' | 'Odyssey' | null
  hasStandby: boolean
  hasDisk: boolean
}

export interface Fault {
  name: string
  /** How often, in relation to the others. */
  weight: number
  /** About how long it takes, in milliseconds. */
  takes: number
  isPossible?: (setup: Setup) => boolean
  /** @param length from 0 to 1: how long or how hard */
  run (stage: Stage, length: number): Promise<void>
}

/** The sudden events of the bad days. */
const events: Fault[] = badDays.filter((event) => event.isSudden === true).map(({ name, where, run }) => ({
  name,
  weight: 1,
  takes: 1500,
  isPossible: ({ pooler }) => where === 'everywhere' || pooler === 'PgBouncer',
  run
}))

const own: Fault[] = [
  {
    name: 'backends killed',
    weight: 4,
    takes: 50,
    run: async ({ server }) => { await server.terminate('active', 'idle in transaction', 'idle') }
  },
  {
    name: 'connections cut',
    weight: 2,
    takes: 10,
    run: async ({ proxy }, length) => proxy.cut({ reset: length < 0.5 })
  },
  {
    name: 'connections cut at COMMIT',
    weight: 3,
    takes: 500,
    async run ({ proxy }, length) {
      const trap = proxy.cutOn(/^commit$/i, { after: length < 0.7, times: 4 })
      await sleep(500)
      trap.times = 0
    }
  },
  {
    name: 'connections cut in the middle of a message',
    weight: 2,
    takes: 300,
    async run ({ proxy }, length) {
      proxy.tear({ from: length < 0.6 ? 'server' : 'client' })
      await sleep(300)
    }
  },
  {
    name: 'connections stalled in the middle of a message',
    weight: 2,
    takes: 1500,
    async run ({ proxy }, length) {
      const stall = 200 + 2600 * length
      proxy.tear({ from: length % 0.1 < 0.05 ? 'server' : 'client', stall })
      await sleep(stall)
    }
  },
  {
    name: 'connections stalled',
    weight: 1,
    takes: 1000,
    async run ({ proxy }, length) {
      proxy.pause()
      await sleep(200 + 1500 * length)
      proxy.resume()
    }
  },
  {
    name: 'the app killed with -9',
    weight: 2,
    takes: 1000,
    async run ({ app }) {
      await app.end('SIGKILL')
      await app.start()
    }
  },
  {
    name: 'the app closed and started',
    weight: 1,
    takes: 1500,
    async run ({ app }) {
      await app.end('SIGTERM')
      await app.start()
    }
  },
  {
    name: 'Odyssey killed with -9',
    weight: 3,
    takes: 500,
    isPossible: ({ pooler }) => pooler === 'Odyssey',
    async run ({ pooler }, length) {
      await pooler!.kill9()
      await sleep(300 * length)
      await pooler!.start()
    }
  },
  {
    name: 'the disk is full',
    weight: 2,
    takes: 1500,
    isPossible: ({ hasDisk }) => hasDisk,
    async run ({ disk }, length) {
      await disk!.fill()
      await sleep(500 + 2000 * length)
      await disk!.free()
    }
  }
]

const failOver: Fault = {
  name: 'the standby takes over', weight: 0, takes: 3000, run: (stage) => stage.failOver()
}

export interface Planned {
  /** Milliseconds from the start. */
  at: number
  fault: Fault
  length: number
}

/** The faults of a run, in their order: setup, minutes and the random numbers alone determine them. */
export function schedule (setup: Setup, minutes: number, random: () => number): Planned[] {
  const end = minutes * 60_000
  const possible = [...own, ...events].filter(({ isPossible }) => isPossible?.(setup) !== false)
  const planned: Planned[] = []
  let hasFailedOver = !setup.hasStandby
  for (let at = 1500 + 1000 * random(); at < end;) {
    let left = random() * possible.reduce((sum, { weight }) => sum + weight, 0)
    let fault = possible.find(({ weight }) => (left -= weight) < 0) ?? possible[0]!
    if (!hasFailedOver && at > end / 2) {
      hasFailedOver = true
      fault = failOver
    }
    planned.push({ at, fault, length: random() })
    at += fault.takes + 300 + 2400 * random()
  }
  return planned
}
