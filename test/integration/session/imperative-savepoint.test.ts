import { AsyncLocalStorage } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Savepoint, Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
const proxy = await startPgProxy(t, postgres)
const app = Fastify()
await app.register(pgScope, {
  connectionString: proxy.connectionString(postgres.connectionString), pool: { max: 3 }, preparedStatements: 0
})
t.teardown(() => app.close())

const { db } = app
const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (session: Session, name: string) => session.query('INSERT INTO things VALUES ($1)', [name])
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

t.beforeEach(() => postgres.query('TRUNCATE things'))

t.test('release() keeps the work, rollback() undoes it alone', async t => {
  await db.scope(async (session) => {
    await insert(session, 'before')
    const kept = await session.savepoint()
    await insert(session, 'kept')
    await kept.release()
    const undone = await session.savepoint()
    await insert(session, 'undone')
    await undone.rollback()
    await insert(session, 'behind')
  })
  t.same(await names(), ['before', 'behind', 'kept'])
})

t.test('a savepoint makes a failed session usable again by rollback(); release() rejects with the failure and leaves it open', async t => {
  await db.scope(async (session) => {
    await insert(session, 'a')
    const savepoint = await session.savepoint()
    await t.rejects(insert(session, 'a'), { code: '23505' })
    t.equal(session.state, 'failed')
    await t.rejects(savepoint.release(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
    await savepoint.rollback()
    t.equal(session.state, 'active')
    await insert(session, 'b')
  })
  t.same(await names(), ['a', 'b'])
})

t.test('it may be the session\'s first statement that fails', async t => {
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    await t.rejects(session.query('SELECT 1/0'), { code: '22012' })
    await savepoint.rollback()
    await insert(session, 'a')
  })
  t.same(await names(), ['a'])
})

t.test('SAVEPOINT and RELEASE travel with the next statement, and an empty savepoint costs nothing', async t => {
  await db.query('SELECT 1')
  proxy.reset()
  await db.scope(async (session) => {
    await (await session.savepoint('empty')).release()
    await (await session.savepoint()).rollback()
    await session.query('SELECT 1')
    const one = await session.savepoint('one')
    await session.query('SELECT 2')
    await one.release()
    await session.query('SELECT 3')
  })
  t.equal(proxy.roundTrips, 4)
  t.same(proxy.executed.filter((text) => !/^(BEGIN|SELECT set_config)/.test(text)),
    ['SELECT 1', 'SAVEPOINT "one"', 'SELECT 2', 'RELEASE SAVEPOINT "one"', 'SELECT 3', 'COMMIT'])
})

t.test('calls keep the order in which they were called, also where none is awaited', async t => {
  await db.scope(async (session) => {
    const opened = session.savepoint()
    insert(session, 'undone')
    const undone = opened.then((savepoint) => savepoint.rollback())
    await undone
    insert(session, 'first')
    const second = await session.savepoint()
    insert(session, 'inside')
    const released = second.release()
    insert(session, 'behind')
    const third = session.savepoint()
    insert(session, 'third')
    await released
    await (await third).rollback()
  })
  t.same(await names(), ['behind', 'first', 'inside'])
})

t.test('calls from any async context run inside of it', async t => {
  const session = db.session()
  let run!: () => void
  const elsewhere = new Promise<void>((resolve) => { run = resolve }).then(() => insert(session, 'elsewhere'))
  const savepoint = await session.savepoint()
  run()
  await elsewhere
  await savepoint.rollback()
  await session.commit()
  t.same(await names(), [])
  await session.close()
})

t.test('names are quoted, may occur twice, and may look like those that the session chooses', async t => {
  await db.scope(async (session) => {
    const name = 'it\'s "ünïque"'
    const outer = await session.savepoint(name)
    t.equal(outer.name, name)
    await insert(session, 'outer')
    const inner = await session.savepoint(name)
    await insert(session, 'inner')
    await inner.release()
    const again = await session.savepoint(name)
    await insert(session, 'again')
    await again.rollback()
    const chosen = await session.savepoint('scope_1')
    await insert(session, 'chosen')
    await session.transaction(() => insert(session, 'nested'))
    await chosen.rollback()
    await outer.release()
    t.match((await session.savepoint()).name, /^scope_\d+$/)
  })
  t.same(await names(), ['inner', 'outer'])
})

t.test('a name that PostgreSQL would not take is refused, and the session has failed', async t => {
  for (const name of ['', 'x'.repeat(64), 'ü'.repeat(32), 'a\0b', null, 5, {}]) {
    const session = db.session()
    await t.rejects(session.savepoint(name as string), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /1 to 63 bytes/ })
    t.equal(session.state, 'failed')
    await session.close()
  }
  await db.scope(async (session) => { await (await session.savepoint('x'.repeat(63))).release() })
})

t.test('savepoints and transaction(fn) nest in each other to any depth', async t => {
  for (const failing of [0, 1, 2, 3, 4, 5, 6]) {
    await postgres.query('TRUNCATE things')
    const level = async (session: Session, depth: number): Promise<void> => {
      if (depth > 6) return
      const work = async (session: Session): Promise<void> => {
        await insert(session, `${depth}`)
        await level(session, depth + 1)
        await insert(session, `${depth} again`)
        if (depth === failing) throw new Error('mine')
      }
      if (depth % 2 === 0) return session.transaction(work).catch((error) => { t.equal(error.message, 'mine') })
      const savepoint = await session.savepoint(depth === 3 ? 'named' : undefined)
      try {
        await work(session)
        await savepoint.release()
      } catch {
        await savepoint.rollback()
      }
    }
    await db.scope((session) => level(session, 1))
    const kept = [1, 2, 3, 4, 5, 6].filter((depth) => failing === 0 || depth < failing)
    t.same(await names(), kept.flatMap((depth) => [`${depth}`, `${depth} again`]), `level ${failing} fails`)
  }
})

t.test('inside of transaction(fn) it belongs to fn: calls from outside wait for fn, and it ends with fn', async t => {
  let savepoint!: Savepoint
  await db.scope(async (session) => {
    const inner = session.transaction(async (session) => {
      savepoint = await session.savepoint()
      await insert(session, 'open at the end')
    })
    await insert(session, 'outside')
    await inner
    await t.rejects(savepoint.release(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /after its end/ })
    await t.rejects(session.transaction(async (session) => {
      await session.savepoint('left open')
      await insert(session, 'undone')
      throw new Error('mine')
    }), { message: 'mine' })
    const around = await session.savepoint()
    await session.transaction(async (session) => {
      await session.savepoint()
      await insert(session, 'undone too')
    })
    await around.rollback()
  })
  t.same(await names(), ['open at the end', 'outside'])
})

t.test('release() and rollback() work from code that has lost the async context of fn', async t => {
  const outside = { run: AsyncLocalStorage.snapshot() as (fn: () => void) => void }
  await db.scope(async (session) => {
    const events = new EventEmitter()
    events.on('end', (savepoint: Savepoint) => { events.emit('ended', savepoint.rollback()) })
    const inner = session.transaction(async (session) => {
      const savepoint = await session.savepoint()
      await insert(session, 'undone')
      const ended = new Promise((resolve) => events.once('ended', resolve))
      outside.run(() => events.emit('end', savepoint))
      await ended
      await insert(session, 'kept')
    })
    await inner
  })
  t.same(await names(), ['kept'])
})

t.test('release() and rollback() from outside wait for a running transaction(fn)', async t => {
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    const inner = session.transaction(async (session) => {
      await insert(session, 'inner')
      await new Promise((resolve) => setImmediate(resolve))
      await insert(session, 'inner too')
    })
    await savepoint.release()
    await inner
  })
  t.same(await names(), ['inner', 'inner too'])
})

t.test('the wrong order is an error that names both, and an error that is awaited leaves the session usable', async t => {
  const state = 'FST_PG_SCOPE_SESSION_STATE'
  await db.scope(async (session) => {
    const outer = await session.savepoint('outer')
    const inner = await session.savepoint('inner')
    for (const call of ['release', 'rollback'] as const) {
      await t.rejects(outer[call](), { code: state, details: /savepoint "outer" while savepoint "inner"/ })
    }
    await session.transaction(async () => {
      for (const call of ['release', 'rollback'] as const) {
        await t.rejects(inner[call](), { code: state, details: /savepoint "inner" .* transaction\(fn\)/ })
      }
    })
    await inner.rollback()
    for (const call of ['release', 'rollback'] as const) {
      await t.rejects(inner[call](), { code: state, details: /"inner" after its end/ })
    }
    await outer.release()
    await t.rejects(outer.rollback(), { code: state, details: /after its end/ })
    await insert(session, 'a')
  })
  t.same(await names(), ['a'])
})

t.test('an error of the wrong order that is not awaited fails the transaction around it', async t => {
  await t.rejects(db.scope(async (session) => {
    const savepoint = await session.savepoint()
    await insert(session, 'a')
    await savepoint.release()
    savepoint.release()
  }), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  await db.scope(async (session) => {
    const around = await session.savepoint()
    const savepoint = await session.savepoint()
    await savepoint.release()
    savepoint.release()
    await t.rejects(around.release(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
    await around.rollback()
    await insert(session, 'b')
  })
  t.same(await names(), ['b'])
})

t.test('a transaction(fn) that failed and is not awaited fails the savepoint around it, or what ends in its place', async t => {
  const fails = async (session: Session): Promise<void> => {
    session.transaction(() => { throw new Error('mine') })
    await insert(session, 'a')
  }
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    await fails(session)
    await t.rejects(savepoint.release(), { message: 'mine' })
    await savepoint.rollback()
    await insert(session, 'b')
  })
  await t.rejects(db.scope(async (session) => {
    await session.savepoint()
    await fails(session)
  }), { message: 'mine' })
  await t.rejects(db.scope((session) => session.transaction(async (session) => {
    await session.savepoint()
    await fails(session)
  })), { message: 'mine' })
  t.same(await names(), ['b'])
})

t.test('its work goes with the session when it is still open at the end, and at commit() and rollback()', async t => {
  await db.scope(async (session) => {
    await session.savepoint()
    await insert(session, 'a')
  })
  const session = db.session()
  const first = await session.savepoint()
  await insert(session, 'b')
  await session.savepoint()
  await insert(session, 'c')
  await session.commit()
  await t.rejects(first.rollback(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  const second = await session.savepoint()
  await insert(session, 'd')
  await session.rollback()
  await t.rejects(second.release(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  const third = await session.savepoint()
  await insert(session, 'e')
  await session.close()
  await t.rejects(third.release(), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.same(await names(), ['a', 'b', 'c'])
})

t.test('await using rolls back unless it was released, with everything inside', async t => {
  await db.scope(async (session) => {
    {
      await using savepoint = await session.savepoint()
      await insert(session, 'released')
      await savepoint.release()
    }
    {
      await using outer = await session.savepoint()
      t.ok(outer)
      await insert(session, 'a')
      await session.savepoint()
      await insert(session, 'b').catch(() => {})
      await insert(session, 'b').catch(() => {})
    }
    {
      await using pending = await session.savepoint()
      await insert(session, 'pending')
      pending.release()
    }
    t.equal(session.state, 'active')
  })
  t.same(await names(), ['pending', 'released'])
})

t.test('hooks and streams that were opened inside end with rollback()', async t => {
  const ran: string[] = []
  await db.scope(async (session) => {
    session.afterCommit(() => { ran.push('before') })
    const savepoint = await session.savepoint()
    session.afterCommit(() => { ran.push('undone') })
    session.afterRollback(() => { ran.push('rolled back') })
    const stream = session.stream('SELECT generate_series(1, 5000) AS n')
    for await (const { n } of stream) if (n === 3) break
    const open = session.stream('SELECT generate_series(1, 5000) AS n')
    await once(open)
    await savepoint.rollback()
    t.same(ran, ['rolled back'])
    await t.rejects(async () => { for await (const row of open) t.ok(row) }, { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    const kept = await session.savepoint()
    session.afterCommit(() => { ran.push('kept') })
    await kept.release()
  })
  t.same(ran, ['rolled back', 'before', 'kept'])
})

const once = (stream: NodeJS.ReadableStream) => new Promise((resolve) => stream.once('readable', resolve))

t.test('a hook belongs to a savepoint that was called for before it, even while both wait for a transaction(fn)', async t => {
  const ran: string[] = []
  await db.scope(async (session) => {
    const inner = session.transaction((session) => insert(session, 'a'))
    session.afterCommit(() => { ran.push('before') })
    const savepoint = session.savepoint()
    session.afterCommit(() => { ran.push('inside') })
    await inner
    await (await savepoint).rollback()
  })
  t.same(ran, ['before'])
})

t.test('a failed session opens no savepoint', async t => {
  await t.rejects(db.scope(async (session) => {
    await t.rejects(session.query('SELECT 1/0'))
    await t.rejects(session.savepoint(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  const session = db.session()
  await session.close()
  await t.rejects(session.savepoint(), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
})

t.test('a connection that is lost fails the session, and rollback() of the savepoint does not hide it', async t => {
  await t.rejects(db.scope(async (session) => {
    const savepoint = await session.savepoint()
    const { rows: [{ pid }] } = await session.query('SELECT pg_backend_pid() AS pid')
    await postgres.query('SELECT pg_terminate_backend($1, 1000)', [pid])
    await t.rejects(insert(session, 'lost'), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
    await savepoint.rollback()
    t.equal(session.state, 'failed')
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
})

t.test('rows outside of a savepoint go on while savepoints fail between them', async t => {
  let sum = 0
  await db.scope(async (session) => {
    for await (const { n } of session.stream('SELECT generate_series(1, 100) AS n', [], { batchSize: 10 })) {
      sum += n
      const savepoint = await session.savepoint()
      if (n % 3 === 0) await t.rejects(session.query('SELECT 1/0'))
      await savepoint.rollback()
    }
  })
  t.equal(sum, 5050)
})

t.test('many savepoints leave none open on the server', async t => {
  await db.scope(async (session) => {
    for (let i = 0; i < 20; i++) {
      const savepoint = await session.savepoint()
      await insert(session, `${i}`)
      await savepoint.release()
    }
    await session.query('SELECT 1')
    await t.rejects(session.query('SELECT 1; ROLLBACK TO SAVEPOINT scope_20'), { code: '3B001' })
    await session.rollback()
  })
})

t.test('every connection came back, and nothing was unhandled', async t => {
  t.match(db.stats(), { inUse: 0, waiting: 0 })
  t.same(unhandled, [])
})
