import t from 'tap'
import { openLoggedApp } from '../../../harness/logged-app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startCluster, type ClusterServer, type Standby } from '../../../harness/standby.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../harness/plugin.ts'
import type { Test } from 'tap'

interface Line { msg: string, outcome?: string }

const { primary, addStandby } = await startCluster(t, { standbys: 0 })
await primary.query('CREATE TABLE entry (text text)')
let current: ClusterServer = primary

/** It receives nothing any more. */
async function detach (standby: Standby): Promise<void> {
  await standby.query("ALTER SYSTEM SET primary_conninfo = ''")
  await standby.query('SELECT pg_reload_conf()')
  await waitFor(async () => (await standby.query('SELECT FROM pg_stat_wal_receiver')).rowCount === 0)
}

interface Failover {
  begins?: (standby: Standby) => unknown
  /** What runs in the transaction, behind its first statement. */
  within?: (standby: Standby) => unknown
  /** What follows the promotion, before the app can connect to the new primary. */
  promoted?: (standby: Standby) => unknown
}

/**
 * A transaction whose COMMIT runs and is never answered, as the primary is cut off and its standby promoted.
 *
 * @returns what the app learns, and what the new primary has
 */
async function failOver (
  t: Test, text: string, { begins, within, promoted }: Failover, strategy: (typeof strategies)[number] = strategies[0]!
): Promise<{ result: { code?: string, details?: string } | 'committed', saved: string[], log: Line[] }> {
  const before = current
  const standby = await addStandby(before)
  await standby.caughtUp()
  const [old, next] = [await startPgProxy(t, before), await startPgProxy(t, standby)]
  const { user, password, database } = before
  const hosts = [old, next].map(({ port }) => `127.0.0.1:${port}`).join(',')
  const { app, log } = await openLoggedApp<Line>(
    `postgres://${user}:${password}@${hosts}/${database}?target_session_attrs=primary`,
    { plugin: { resolveCommits: true, pool: { strategy, acquireTimeout: 60000 } } }
  )
  t.teardown(() => app.close())
  const trap = old.cutOn(/^commit$/i, { after: true })
  await begins?.(standby)
  const work = app.db.scope(async (session: Session) => {
    await session.query('INSERT INTO entry VALUES ($1)', [text])
    next.refuse()
    await within?.(standby)
  }).then(() => 'committed' as const, (error: { code?: string, details?: string }) => error)
  await trap.sprung
  old.refuse()
  old.cut()
  if (begins === undefined && within === undefined) await standby.caughtUp()
  await before.stop()
  await standby.promote()
  await promoted?.(standby)
  next.refuse(false)
  const result = await work
  current = standby
  const { rows } = await standby.query('SELECT text FROM entry WHERE text = $1', [text])
  return { result, saved: rows.map(({ text }) => text), log: log.filter(({ outcome }) => outcome !== undefined) }
}

for (const strategy of strategies) {
  t.test(`${strategy}: after a failover to a standby that has the transaction, it is known to be committed`, async (t) => {
    const { result, saved, log } = await failOver(t, 'kept', {}, strategy)
    t.equal(result, 'committed')
    t.same(saved, ['kept'])
    t.match(log, [{ outcome: 'committed' }])
    await current.query('TRUNCATE entry')
  })
}

t.test('a standby that has received nothing of it has lost it, although its id belongs to another transaction by now', async (t) => {
  const { result, saved, log } = await failOver(t, 'nothing', {
    begins: detach,
    promoted: async (standby) => {
      for (let i = 0; i < 20; i++) await standby.query("INSERT INTO entry VALUES ('of another transaction')")
    }
  })
  t.match(result, { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(saved, [])
  t.match(log, [{ outcome: 'aborted' }])
})

t.test('a standby that has received its rows and not its COMMIT has lost it', async (t) => {
  const { result, saved, log } = await failOver(t, 'half', {
    within: async (standby) => {
      // Flushes what the transaction has written.
      await current.query("INSERT INTO entry VALUES ('meanwhile')")
      await standby.caughtUp()
      await detach(standby)
    }
  })
  t.match(result, { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(saved, [])
  t.match(log, [{ outcome: 'aborted' }])
})

t.test('a new primary that has restarted since cannot tell', async (t) => {
  const { result, log } = await failOver(t, 'perhaps', {
    within: (standby) => standby.caughtUp(),
    promoted: (standby) => standby.restart('immediate')
  })
  t.match(result, { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN', details: /another server has answered: system \d+, timeline \d+/ })
  t.same(log, [])
})
