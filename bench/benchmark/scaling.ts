import type { TestPostgres } from '../../harness/postgres.ts'
import { Child } from './child.ts'
import { median } from './median.ts'
import { measure, type Length } from './round.ts'
import { startApp, type RunningApp } from './running-app.ts'
import { max } from './setting.ts'
import type { SubjectName } from './subject.ts'

/** What a request costs when there is more of something else. */
export interface Scaling {
  subject: SubjectName
  what: 'routes' | 'waiting requests'
  /** How many of them, and the microseconds of CPU for each request, with few and with many. */
  few: Cost
  many: Cost
}

export interface Cost {
  count: number
  cpu: number
}

interface Side {
  app: RunningApp
  connections: number
  count: number
  cpus: number[]
}

const subjects: SubjectName[] = ['by-hand', 'pg-scope']
/** Rounds before those that count. */
const warmUps = 3

const few = { routes: 1, waiting: 10 }
const usual = { routes: 1000, waiting: 1000 }

export async function measureScaling (
  postgres: TestPostgres, rounds: number, length: Length, many = usual
): Promise<Scaling[]> {
  const [load] = await Child.start('load', null)
  const apps: RunningApp[] = []
  const start = async (subject: SubjectName, moreRoutes: number): Promise<RunningApp> => {
    const app = await startApp(subject, {
      connectionString: postgres.connectionString, max, unprepared: false, moreRoutes
    })
    apps.push(app)
    return app
  }
  try {
    const cases = []
    for (const subject of subjects) {
      const app = await start(subject, few.routes - 1)
      const large = await start(subject, many.routes - 1)
      const withRoutes = (app: RunningApp, count: number): Side => ({ app, connections: 50, count, cpus: [] })
      const withWaiting = (count: number): Side => ({ app, connections: max + count, count, cpus: [] })
      cases.push(
        { subject, what: 'routes' as const, few: withRoutes(app, few.routes), many: withRoutes(large, many.routes) },
        { subject, what: 'waiting requests' as const, few: withWaiting(few.waiting), many: withWaiting(many.waiting) }
      )
    }
    // Equally long for each: the small apps are asked more often later on, and what is not compiled yet costs more.
    for (const app of apps) await measure(postgres, load, app, 'read', 50, { warmUp: 0, duration: warmUps * length.duration })
    for (let round = 0; round < rounds; round++) {
      for (const { few, many } of cases) {
        for (const side of [few, many]) {
          const { cpu } = await measure(postgres, load, side.app, 'read', side.connections, length)
          side.cpus.push(cpu)
        }
      }
    }
    const cost = ({ count, cpus }: Side): Cost => ({ count, cpu: median(cpus) })
    return cases.map(({ subject, what, few, many }) => ({ subject, what, few: cost(few), many: cost(many) }))
  } finally {
    for (const app of apps) await app.stop()
    await load.stop()
  }
}
