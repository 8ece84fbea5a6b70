import pg from 'pg'
import { findPgBouncers, startPgBouncer, compareVersions } from '../../test/helpers/pgbouncer.ts'
import type { TestPostgres } from '../../test/helpers/postgres.ts'
import { Child } from './child.ts'
import type { Delay } from './delay.ts'
import { median } from './median.ts'
import type { Setting } from './setting.ts'

/** The way from the app to PostgreSQL. */
export interface Network {
  connectionString: string
  host: string
  port: number
  /** Whether statements cannot be prepared on it. */
  unprepared: boolean
  /** What a round trip takes in addition, as it was measured. Milliseconds. */
  delay: number
  close (): Promise<void>
}

/** How far the measured delay may be from what was asked for. */
const tolerance = 0.25

export async function openNetwork (postgres: TestPostgres, { delay, pooler }: Pick<Setting, 'delay' | 'pooler'>): Promise<Network> {
  const teardowns: (() => unknown)[] = []
  const close = async (): Promise<void> => { for (const teardown of teardowns.reverse()) await teardown() }
  try {
    let { host, port, connectionString } = postgres as { host: string, port: number, connectionString: string }
    let unprepared = false
    if (pooler !== 'none') {
      const program = (await findPgBouncers()).findLast(({ version }) => pooler === 'newest' || `${version}.`.startsWith(`${pooler}.`))
      if (program === undefined) throw new Error(`PgBouncer ${pooler} is not installed: .ci/pgbouncer prepares it`)
      const bouncer = await startPgBouncer({ teardown: (callback) => teardowns.push(callback) }, postgres, {
        program,
        settings: { default_pool_size: 50, max_client_conn: 500 }
      });
      ({ host, port, connectionString } = bouncer)
      unprepared = compareVersions(program.version, '1.24') < 0
    }
    let measured = 0
    if (delay > 0) {
      const undelayed = await roundTrip(connectionString)
      const [proxy, proxyPort] = await Child.start<number>('delay', { host, port, delay: delay / 2 } satisfies Delay)
      teardowns.push(() => proxy.stop())
      connectionString = connectionString.replace(`:${port}/`, `:${proxyPort}/`)
      port = proxyPort
      measured = await roundTrip(connectionString) - undelayed
      if (Math.abs(measured - delay) > delay * tolerance) throw new Error(`a round trip takes ${measured.toFixed(2)} ms more, not ${delay}: is the machine busy?`)
    }
    return { connectionString, host, port, unprepared, delay: measured, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function roundTrip (connectionString: string): Promise<number> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    const times: number[] = []
    for (let i = 0; i < 200; i++) {
      const start = performance.now()
      await client.query('SELECT 1')
      times.push(performance.now() - start)
    }
    return median(times)
  } finally {
    await client.end()
  }
}
