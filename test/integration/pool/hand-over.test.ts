// A connection goes on to whoever waits while its COMMIT is still under way. docs/pool.md says which rules make
// that safe.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions, type ScopeOptions } from '../../../lib/index.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyAnnounced, withoutSettings } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
// COMMIT of a row takes as many milliseconds as its second column says, and fails where that is negative.
await postgres.query(`
  CREATE TABLE things (id int, slow int NOT NULL DEFAULT 0);
  CREATE FUNCTION at_commit () RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF NEW.slow < 0 THEN RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'; END IF;
    PERFORM pg_sleep(NEW.slow / 1000.0);
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()`)
const things = async (): Promise<number[]> => (await postgres.query('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)
t.beforeEach(async () => { await postgres.query('TRUNCATE things') })

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString),
    idleInTransactionTimeout: 0,
    ...options,
    pool: { max: 1, acquireTimeout: 30000, ...options.pool }
  })
  // Connections that were looked at, as all are after their first statement.
  await Promise.all(Array.from({ length: options.pool?.max ?? 1 }, () => app.db.query('SELECT pg_sleep(0.01)')))
  proxy.reset()
  const { db } = app
  // With options of its own each time: how long the COMMITs of one kind of session take is remembered.
  const write = (id: number, slow = 0, options: ScopeOptions = { isolation: 'read committed' }) => db.scope((session) => session.query('INSERT INTO things VALUES ($1, $2)', [id, slow]), options)
  /** Everything that was handed over since the start. */
  const handedOver = (): number => db.stats().counters.handedOver
  return { proxy, db, write, handedOver }
}

const known = onlyAnnounced(t, 'a PgBouncer that does not say what it is gets no second session behind a COMMIT')

known.test('a connection is held for as many round trips as there are statements', async t => {
  const { proxy, db, handedOver } = await setUp(t)
  await Promise.all(Array.from({ length: 20 }, () => db.scope(async (session) => {
    await session.query('SELECT 1')
    await session.query('SELECT 2')
  })))
  // On a busy machine a COMMIT may look slow.
  t.ok(handedOver() >= 10, `${handedOver()} handed over`)
  t.equal(proxy.roundTrips, 2 * 20 + 20 - handedOver())
  t.equal(proxy.connections, 0, 'all on one connection')
})

known.test('a rollback without a failure hands its connection over too, and one behind a failure does not', async t => {
  const { db, handedOver } = await setUp(t)
  const session = db.session()
  await session.query('SELECT 1')
  const next = db.scope((session) => session.query('SELECT 1'))
  await session.rollback()
  await next
  t.equal(handedOver(), 1)
  const failed = db.session()
  await t.rejects(failed.query('SELECT 1 / 0'), { code: '22012' })
  const other = db.scope((session) => session.query('SELECT 1'))
  await failed.rollback()
  await other
  t.equal(handedOver(), 1)
  await Promise.all([session.close(), failed.close()])
})

for (const fate of ['lives', 'dies']) {
  known.test(`a stream whose CLOSE is still to be answered when COMMIT is written: the connection is handed over, and ${fate}`, async t => {
    const { proxy, db, handedOver } = await setUp(t)
    proxy.delay(20)
    const streaming = db.scope(async (session) => {
      const rows = await session.stream('SELECT 1 AS one').toArray()
      if (fate === 'dies') proxy.cutOn(/^CLOSE/)
      return rows
    })
    const next = db.scope((session) => session.query('SELECT 2 AS two'))
    if (fate === 'lives') t.same(await streaming, [{ one: 1 }])
    else await t.rejects(streaming, { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
    t.same((await next).rows, [{ two: 2 }])
    t.equal(handedOver(), 1)
  })
}

known.test('a session that comes while COMMIT is in progress gets its connection as well', async t => {
  const { proxy, write, db, handedOver } = await setUp(t)
  const first = write(1, 100)
  await waitFor(() => proxy.executed.at(-1) === 'COMMIT', { interval: 1 })
  const single = db.query('SELECT count(*)::int AS n FROM things')
  t.equal(handedOver(), 1)
  t.same((await single).rows, [{ n: 1 }], 'it runs after COMMIT')
  await first
})

known.test('a session that waits for COMMIT gets its own answer, whatever happens to the session behind it', async t => {
  const { write, db, handedOver } = await setUp(t)
  const outcomes = await Promise.allSettled([write(1), write(2, -1), db.scope((session) => session.query('SELECT 1 / 0')), write(3), write(4, -1), write(5)])
  t.same(outcomes.map((outcome) => outcome.status === 'fulfilled' ? 'kept' : outcome.reason.code), ['kept', 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', '22012', 'kept', 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', 'kept'])
  t.equal(handedOver(), 4, 'all but the one behind the failed statement')
  t.same(await things(), [1, 3, 5])
})

known.test('a session that is canceled never cancels the COMMIT in front of it', async t => {
  const { proxy, write, db, handedOver } = await setUp(t)
  for (const id of [1, 2, 3]) {
    const first = write(id, 150)
    const abort = new AbortController()
    const second = db.scope((session) => session.query('INSERT INTO things SELECT 100 FROM pg_sleep(10)'), { signal: abort.signal })
    await waitFor(() => handedOver() === id, { interval: 1 })
    abort.abort()
    await first
    await t.rejects(second, { code: 'FST_PG_SCOPE_CANCELED' })
  }
  t.same(await things(), [1, 2, 3])
  t.ok(proxy.cancels >= 3, 'and was canceled on the server when its turn had come')
  t.match(db.stats(), { open: 1, inUse: 0, counters: { destroyed: 0 } })
})

known.test('a statement by itself that is given up never cancels the COMMIT in front of it either', async t => {
  const { write, db, handedOver } = await setUp(t)
  const first = write(1, 2500)
  const ping = db.ping(1000)
  t.equal(handedOver(), 0)
  await waitFor(() => handedOver() === 1, { interval: 1 })
  await t.rejects(ping, { code: 'FST_PG_SCOPE_UNREACHABLE' })
  await first
  t.same(await things(), [1])
  await waitFor(() => db.stats().inUse === 0)
})

for (const after of [true, false]) {
  known.test(`a connection that dies between the two: the first outcome is unknown, the second session does not notice (COMMIT ${after ? 'had run' : 'never arrived'})`, async t => {
    const { proxy, write, handedOver } = await setUp(t)
    // The first COMMIT only.
    const { sprung } = proxy.cutOn(/^commit$/i, { after })
    const outcomes = await Promise.allSettled([write(1), write(2), write(3)])
    await sprung
    t.match(outcomes, [{ reason: { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' } }, { status: 'fulfilled' }, { status: 'fulfilled' }])
    t.same(await things(), after ? [1, 2, 3] : [2, 3])
    t.ok(handedOver() >= 1)
  })
}

known.test('the limits of the session behind it do not end a COMMIT that takes its time', async t => {
  const { write, db, handedOver } = await setUp(t)
  const first = write(1, 1500)
  const second = db.scope((session) => session.query('SELECT 1'), { answerTimeout: 500 })
  await Promise.all([first, second])
  t.equal(handedOver(), 1)
  t.same(await things(), [1])
  t.match(db.stats().counters, { destroyed: 0, resent: 0 })
})

known.test('a raw client never gets a connection with a COMMIT under way', async t => {
  const { write, db, handedOver } = await setUp(t)
  const first = write(1, 50)
  const raw = db.lease((client) => client.query('SELECT count(*)::int AS n FROM things'))
  t.same((await raw).rows, [{ n: 1 }])
  await first
  t.equal(handedOver(), 0)
})

known.test('work that holds a connection is not put behind a COMMIT, which may wait for that work', async t => {
  const { db, handedOver } = await setUp(t, { pool: { max: 2, acquireTimeout: 2000 } })
  await db.query('CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED); INSERT INTO parents VALUES (1)')
  const child = db.session()
  await child.query('INSERT INTO children VALUES (1)')
  let commit: Promise<void> | undefined
  const parent = db.scope(async (session) => {
    // COMMIT of the child waits for this lock.
    await session.query('SELECT FROM parents FOR UPDATE')
    const nested = db.query('SELECT 1')
    commit = child.commit()
    await nested
  }, { idleInTransactionTimeout: 10000 })
  await t.rejects(parent, { code: /^FST_PG_SCOPE_POOL/ }, 'acquireTimeout still holds')
  await commit
  await child.close()
  t.equal(handedOver(), 0)
})

known.test('idle connections come first', async t => {
  const { proxy, write, db, handedOver } = await setUp(t, { pool: { max: 2 } })
  const first = write(1, 2000)
  await waitFor(() => proxy.executed.at(-1) === 'COMMIT', { interval: 1 })
  for (let i = 0; i < 5; i++) t.same((await db.scope((session) => session.query('SELECT count(*)::int AS n FROM things'))).rows, [{ n: 0 }])
  t.equal(handedOver(), 0)
  await first
})

known.test('no session is put behind a COMMIT of a route whose COMMITs are slow, until many quick ones have followed', async t => {
  const { proxy, write, db, handedOver } = await setUp(t, { pool: { max: 2 } })
  await write(0, 400, {})
  const count = (): Promise<number> => db.scope(async (session) => (await session.query('SELECT count(*)::int AS n FROM things')).rows[0].n)
  const late = write(1, 2000, {})
  await waitFor(() => proxy.executed.filter((text) => text === 'COMMIT').length === 2, { interval: 1 })
  const before = handedOver()
  // The other connection serves them one after the other, before that COMMIT is answered.
  t.same(await Promise.all(Array.from({ length: 5 }, count)), [1, 1, 1, 1, 1])
  await late
  t.same(await count(), 2)
  for (let i = 0; i < 100; i++) await count()
  await Promise.all(Array.from({ length: 10 }, count))
  t.ok(handedOver() > before)
})

/** A fifth each: kept, refused at COMMIT, thrown out of, failed at a statement, canceled. */
async function mixed (db: Awaited<ReturnType<typeof setUp>>['db'], id: number): Promise<'kept' | string> {
  const abort = new AbortController()
  try {
    await db.scope(async (session) => {
      await session.query('INSERT INTO things VALUES ($1, $2)', [id, id % 2 === 0 ? -1 : 0])
      if (id % 5 === 1) throw Object.assign(new Error('thrown'), { code: 'thrown' })
      if (id % 5 === 2) await session.query('SELECT 1 / 0')
      if (id % 50 === 3) {
        setTimeout(() => abort.abort(), 2)
        await session.query('SELECT pg_sleep(10)')
      }
      const { rows } = await session.query('SELECT $1::int AS id', [id])
      if (rows[0].id !== id) throw new Error(`the answer of ${rows[0].id} came to ${id}`)
    }, { signal: abort.signal })
    return 'kept'
  } catch (error) {
    return (error as { code: string }).code
  }
}

async function balanced (t: Test, db: Awaited<ReturnType<typeof setUp>>['db']): Promise<void> {
  const kept: number[] = []
  const codes = new Set<string>()
  let next = 0
  await Promise.all(Array.from({ length: 30 }, async () => {
    while (next < 1500) {
      const id = next++
      const outcome = await mixed(db, id)
      if (outcome === 'kept') kept.push(id)
      else codes.add(outcome)
    }
  }))
  t.same(await things(), kept.sort((a, b) => a - b), 'what was acknowledged is there, and nothing else')
  t.same([...codes].sort(), ['22012', 'FST_PG_SCOPE_CANCELED', 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', 'thrown'])
  t.same((await postgres.activity()).filter(({ state }) => state !== 'idle'), [], 'nothing is left open')
}

known.test('half of the COMMITs fail under load: every answer is its own, and what was acknowledged is there', async t => {
  const { db, handedOver } = await setUp(t, { pool: { max: 3 } })
  await balanced(t, db)
  t.ok(handedOver() > 300, `${handedOver()} handed over`)
})

known.test('half of the COMMITs fail under load behind each PgBouncer, and only one that says what it is gets a session behind a COMMIT', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { default_pool_size: 2 } })
    const { db, handedOver } = await setUp(t, { connectionString: pgbouncer.connectionString, pool: { max: 3 } })
    await postgres.query('TRUNCATE things')
    await balanced(t, db)
    if (program.version.startsWith('1.18.')) t.equal(handedOver(), 0)
    else t.ok(handedOver() > 300, `${handedOver()} handed over`)
  })
})

known.test('a COMMIT and the first batch behind it leave in one write, as do statements that are called together', async t => {
  const { proxy, db, handedOver } = await setUp(t)
  const session = db.session()
  await session.query('SELECT 1')
  const next = db.session()
  const behind = next.query('SELECT 2')
  /** What has come by the time that anything has. */
  const first = async (): Promise<string[]> => {
    proxy.reset()
    await waitFor(() => proxy.executed.length > 0, { interval: 0 })
    return proxy.executed
  }
  const settled = session.commit()
  t.same(withoutSettings(await first()), ['COMMIT', 'BEGIN', 'SELECT 2'])
  await Promise.all([settled, behind])
  t.equal(handedOver(), 1)
  const all = Promise.all([3, 4, 5].map((i) => next.query(`SELECT ${i}`)))
  t.same(await first(), ['SELECT 3', 'SELECT 4', 'SELECT 5'])
  await all
  await Promise.all([session.close(), next.close()])
})
