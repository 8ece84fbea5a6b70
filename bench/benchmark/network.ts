import pg from 'pg'
import { findPgBouncers, startPgBouncer, compareVersions } from '../../harness/pgbouncer.ts'
import type { TestPostgres } from '../../harness/postgres.ts'
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
const tolerance = 0.2

export async function openNetwork (postgres: TestPostgres, { delay, pooler }: Pick<Setting, 'delay' | 'pooler'>): Promise<Network> {
  const teardowns: (() => unknown)[] = []
  const close = async (): Promise<void> => { for (const teardown of teardowns.reverse()) await teardown() }
  try {
    let { host, port, connectionString } = postgres as { host: string, port: number, connectionString: string }
    let unprepared = false
    if (pooler !== 'none') {
      const program = (await findPgBouncers()).find(({ version }) => version === pooler)
      if (program === undefined) throw new Error(`PgBouncer ${pooler} is not installed`)
      const bouncer = await startPgBouncer({ teardown: (callback) => teardowns.push(callback) }, postgres, {
        program,
        settings: { default_pool_size: 50, max_client_conn: 500 }
      });
      ({ host, port, connectionString } = bouncer)
      unprepared = compareVersions(program.version, '1.24') < 0
    }
    let measured = 0
    if (delay > 0) {
      const [proxy, proxyPort] = await Child.start<number>('delay', { host, port, delay: delay / 2 } satisfies Delay)
      teardowns.push(() => proxy.stop())
      const direct = connectionString
      connectionString = direct.replace(`:${port}/`, `:${proxyPort}/`)
      port = proxyPort
      measured = await measuredDelay(direct, connectionString, delay)
    }
    return { connectionString, host, port, unprepared, delay: measured, close }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * A busy machine delays by itself: so it is measured several times, and what is left is shown with the results.
 *
 * @throws for a proxy that delays too little
 */
async function measuredDelay (direct: string, delayed: string, delay: number): Promise<number> {
  let measured = 0
  for (let attempt = 0; attempt < 5; attempt++) {
    measured = await roundTrip(delayed) - await roundTrip(direct)
    if (Math.abs(measured - delay) <= delay * tolerance) break
  }
  if (measured < delay * (1 - tolerance)) throw new Error(`a round trip takes only ${measured.toFixed(2)} ms more, not ${delay}`)
  return measured
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
