import t, { type Test } from 'tap'
import type { BadDay } from '../../../bench/bad-days/event.ts'
import { breaches, longestWait, statuses } from '../../../bench/bad-days/finding.ts'
import { runDay } from '../../../bench/bad-days/run.ts'
import { startServer } from '../../../bench/bad-days/server.ts'
import { eachPgBouncer, type PgBouncerProgram } from '../../helpers/pgbouncer.ts'
import { strategy } from '../../helpers/variant.ts'

/** Each event under load, directly where it can happen and behind each PgBouncer. */
export async function testDays (events: readonly BadDay[]): Promise<void> {
  const server = await startServer()
  t.teardown(() => server.stop())
  const test = (t: Test, event: BadDay, program: PgBouncerProgram | null) => t.test(`${event.name}: ${event.cost === 'no request' ? 'no request fails' : 'every answer is true'}, and the pool is whole again`, async (t) => {
    const finding = await runDay(server, program, event, strategy)
    t.comment(`${finding.setup}: ${statuses(finding)}; longest ${longestWait(finding)} ms, first success ${finding.firstSuccess} ms, full strength ${finding.strength} ms, unknown ${finding.books.unknown}`)
    t.strictSame(breaches(finding), [])
  })
  const direct = events.filter(({ where }) => where === 'everywhere')
  if (direct.length > 0) await t.test('directly', async (t) => { for (const event of direct) await test(t, event, null) })
  await eachPgBouncer(t, async (t, program) => {
    for (const event of events) await test(t, event, program)
  })
}
