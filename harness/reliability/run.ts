import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { startPgProxy } from '../pg-proxy.ts'
import { type PgBouncerProgram, startPgBouncer } from '../pgbouncer.ts'
import { waitFor } from '../wait-for.ts'
import type { PoolOptions } from '../../types/options.ts'
import { buildApp, schema } from './app.ts'
import { astray } from './astray.ts'
import { bookQuery, compare, type Row } from './books.ts'
import type { BadDay, Day } from './event.ts'
import type { Finding } from './finding.ts'
import { Load } from './load.ts'
import type { Server } from './server.ts'
import { fullStrength } from './strength.ts'

/** Milliseconds of load before the event, and at least so many after it. */
const before = 300
const after = 600
/**
 * How soon the pool has to be whole again. Milliseconds; a machine with other work is slower, so that it is looked at
 * for longer.
 */
const strengthLimit = 5000

/**
 * One bad day, from quiet to quiet.
 *
 * @param program the PgBouncer to go through, or null for a direct connection
 */
export async function runDay (server: Server, program: PgBouncerProgram | null, event: BadDay, strategy: NonNullable<PoolOptions['strategy']>): Promise<Finding> {
  const teardowns: (() => unknown)[] = []
  const t = { teardown: (callback: () => unknown) => teardowns.push(callback) }
  try {
    await server.query(schema)
    const inFront = event.network === 'in front of the server' ? await startPgProxy(t, server) : null
    const pgBouncer = program === null
      ? null
      : await startPgBouncer(t, {
        ...server, port: inFront?.port ?? server.port
      }, { program, settings: { ...event.settings } })
    const behind = event.network === 'behind the app' ? await startPgProxy(t, pgBouncer ?? server) : null
    const proxy = inFront ?? behind
    const way = pgBouncer ?? server
    const connectionString = (pgBouncer === null ? proxy : behind)?.connectionString(way.connectionString) ??
      way.connectionString
    const app = await buildApp(connectionString, { ...event.options, pool: { strategy, ...event.options?.pool } })
    t.teardown(() => app.close())
    const load = new Load((app.server.address() as AddressInfo).port)
    const day: Day = { server, pgBouncer, proxy, load, app, connectionString }

    load.start()
    await sleep(before)
    const began = performance.now()
    await event.run(day)
    const back = performance.now()
    const [strength] = await Promise.all([fullStrength(app, back, strengthLimit), sleep(after)])
    await load.stop()

    const { inUse, waiting } = app.db.stats()
    const returned = await waitFor(() => app.db.stats().inUse + app.db.stats().waiting === 0, { timeout: 2000 }).then(
      () => true, () => false
    )
    const leftOpen = await waitFor(async () => await server.idleInTransaction() === 0, { timeout: 2000, interval: 50 })
      .then(() => 0, () => server.idleInTransaction())
    return {
      event,
      setup: pgBouncer === null ? 'direct' : `PgBouncer ${pgBouncer.version}`,
      answers: load.answers,
      stuck: load.stuck,
      books: compare(load.answers, await server.query<Row>(bookQuery)),
      outage: Math.round(back - began),
      firstSuccess: firstSuccess(load, back),
      strength,
      leftOpen,
      held: returned ? 0 : inUse + waiting,
      astray: astray.splice(0).map(String)
    }
  } finally {
    for (const teardown of teardowns.reverse()) await teardown()
  }
}

/** Milliseconds from the server's return to the first success that a client read. */
function firstSuccess ({ answers }: Load, back: number): number | null {
  const first = answers.find(({ status, ended }) => status > 0 && status < 400 && ended >= back)
  return first === undefined ? null : Math.round(first.ended - back)
}
