import type { Test } from 'tap'
import { compareVersions, eachPgBouncer, startPgBouncer, type PgBouncerOptions, type PgBouncerServer, type TestPgBouncer } from '../../../harness/pgbouncer.ts'

/** Where connections lead. */
export interface Place {
  readonly mode: 'direct' | 'transaction' | 'session'
  readonly connectionString: string
  readonly host: string
  readonly port: number
  /** undefined for a direct connection. */
  readonly pgbouncer: TestPgBouncer | undefined
  /** From 1.26 on PgBouncer says by itself what it is. */
  readonly announced: boolean
}

type Mode = Place['mode']

/** Runs the same tests directly and through each PgBouncer, as far as the modes are asked for. */
export async function eachPlace (t: Test, server: PgBouncerServer & { connectionString: string }, modes: readonly Mode[], fn: (t: Test, place: Place) => unknown, settings?: PgBouncerOptions['settings']): Promise<void> {
  const { connectionString, host, port } = server
  if (modes.includes('direct')) await t.test('directly', async (t) => { await fn(t, { mode: 'direct', connectionString, host, port, pgbouncer: undefined, announced: false }) })
  await eachPgBouncer(t, async (t, program) => {
    for (const mode of modes) {
      if (mode === 'direct') continue
      await t.test(`in ${mode} mode`, async (t) => {
        const pgbouncer = await startPgBouncer(t, server, { program, poolMode: mode, settings })
        const { connectionString, host, port } = pgbouncer
        await fn(t, { mode, connectionString, host, port, pgbouncer, announced: compareVersions(program.version, '1.26') >= 0 })
      })
    }
  })
}
