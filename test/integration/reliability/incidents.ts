import t, { type Test } from 'tap'
import type { BadDay } from '../../../harness/reliability/event.ts'
import { breaches, longestWait, statuses } from '../../../harness/reliability/finding.ts'
import { runDay } from '../../../harness/reliability/run.ts'
import { type Server, startServer } from '../../../harness/reliability/server.ts'
import { eachPgBouncer, type PgBouncerProgram } from '../../../harness/pgbouncer.ts'
import { strategy } from '../../../harness/variant.ts'

/** Each event under load, directly where it can happen and behind each PgBouncer. */
export function testDays (events: readonly BadDay[]): void {
  t.test('bad days', async (t) => {
    const server = await startServer()
    t.teardown(() => server.stop())
    const direct = events.filter(({ where }) => where === 'everywhere')
    if (direct.length > 0) await t.test('directly', async (t) => { for (const event of direct) await testDay(t, server, event, null) })
    await eachPgBouncer(t, async (t, program) => {
      for (const event of events) await testDay(t, server, event, program)
    })
  })
}

async function testDay (t: Test, server: Server, event: BadDay, program: PgBouncerProgram | null): Promise<void> {
  await t.test(`${event.name}: ${event.cost === 'no request' ? 'no request fails' : 'every answer is true'}, and the pool is whole again`, async (t) => {
    const finding = await runDay(server, program, event, strategy)
    t.comment(`${finding.setup}: ${statuses(finding)}; longest ${longestWait(finding)} ms, first success ${finding.firstSuccess} ms, full strength ${finding.strength} ms, unknown ${finding.books.unknown}`)
    t.strictSame(breaches(finding), [])
  })
}
