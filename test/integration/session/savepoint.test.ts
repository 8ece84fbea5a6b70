import t from 'tap'
import Fastify from 'fastify'
import { setTimeout as sleep } from 'node:timers/promises'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 3 } })
t.teardown(() => app.close())

const { db } = app
const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (session: Session, name: string) => session.query('INSERT INTO things VALUES ($1)', [name])
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

t.beforeEach(() => postgres.query('TRUNCATE things'))

t.test('transaction(fn) hands on what fn returns, and keeps its work', async t => {
  const result = await db.scope((session) => session.transaction(async (inner) => {
    await insert(inner, 'b')
    await insert(session, 'a')
    return 'result'
  }))
  t.equal(result, 'result')
  t.same((await names()).sort(), ['a', 'b'])
})

t.test('a throw undoes the inner work alone, and rejects with the very same error', async t => {
  const mine = new Error('mine')
  await db.scope(async (session) => {
    await insert(session, 'outer')
    await t.rejects(session.transaction(async () => {
      await insert(session, 'inner')
      throw mine
    }), mine)
    t.equal(session.state, 'active')
    await insert(session, 'later')
  })
  t.same(await names(), ['later', 'outer'])
})

t.test('a function that throws at once, or uses no database, or returns no promise, is one as well', async t => {
  await db.scope(async (session) => {
    await t.rejects(session.transaction(() => { throw new Error('at once') }), { message: 'at once' })
    t.equal(await session.transaction(() => 7), 7)
    t.equal(session.state, 'idle')
  })
})

t.test('a failed statement in transaction(fn) leaves the outer transaction usable', async t => {
  await db.scope(async (session) => {
    await insert(session, 'a')
    await t.rejects(session.transaction(() => insert(session, 'a')), { code: '23505' })
    t.equal(session.state, 'active')
    await insert(session, 'b')
  })
  t.same(await names(), ['a', 'b'])
})

t.test('it may be the session\'s first statement that fails', async t => {
  await db.scope(async (session) => {
    await t.rejects(session.transaction(() => session.query('SELECT 1/0')), { code: '22012' })
    t.equal(session.state, 'active')
    await insert(session, 'b')
  })
  t.same(await names(), ['b'])
})

t.test('a caught SQL error rejects the transaction(fn) in which it happened, and nothing else', async t => {
  await db.scope(async (session) => {
    await t.rejects(session.transaction(async () => {
      await insert(session, 'a')
      await session.query('SELECT 1/0').catch(() => {})
      return 'fine'
    }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
    await insert(session, 'b')
  })
  t.same(await names(), ['b'])
})

t.test('a statement that fn does not await counts as well', async t => {
  await db.scope(async (session) => {
    await insert(session, 'a')
    await t.rejects(session.transaction(() => { insert(session, 'a') }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
    await session.transaction(() => { insert(session, 'b') })
  })
  t.same(await names(), ['a', 'b'])
})

for (const failing of [0, 1, 2, 3, 4, 5]) {
  t.test(`five levels deep, a throw at level ${failing || 'none'} undoes it and what is inside of it`, async t => {
    const level = async (session: Session, depth: number): Promise<void> => {
      await insert(session, `${depth}`)
      if (depth < 5) {
        await session.transaction((session) => level(session, depth + 1)).catch(
          (error) => t.equal(error.message, String(depth + 1))
        )
      }
      await insert(session, `${depth} again`)
      if (depth === failing) throw new Error(String(depth))
    }
    await db.scope((session) => session.transaction((session) => level(session, 1))).catch((error) => t.equal(error.message, '1'))
    const kept = [1, 2, 3, 4, 5].filter((depth) => failing === 0 || depth < failing)
    t.same(await names(), kept.flatMap((depth) => [`${depth}`, `${depth} again`]))
  })
}

t.test('functions that know nothing of each other can call each other', async t => {
  const pay = (session: Session, name: string, amount: number) => session.transaction(async (session) => {
    await insert(session, name)
    if (amount < 0) throw new Error('no')
  })
  const payAll = (session: Session, amounts: number[]) => session.transaction(async (session) => {
    for (const [i, amount] of amounts.entries()) await pay(session, `${amounts.length}.${i}`, amount).catch(() => {})
  })
  await db.scope(async (session) => {
    await payAll(session, [1, -1, 2])
    await payAll(session, [-1, 1])
  })
  t.same(await names(), ['2.1', '3.0', '3.2'])
})

t.test('two transaction(fn) at a time run one after the other; the failure of one leaves the rows of the other', async t => {
  await db.scope(async (session) => {
    const running: string[] = []
    const one = async (name: string, fails: boolean) => session.transaction(async (session) => {
      running.push(`${name} begins`)
      await insert(session, `${name}1`)
      await sleep(5)
      await insert(session, `${name}2`)
      running.push(`${name} ends`)
      if (fails) throw new Error(name)
    })
    const results = await Promise.allSettled([one('a', true), one('b', false), one('c', true), one('d', false)])
    t.same(results.map(({ status }) => status), ['rejected', 'fulfilled', 'rejected', 'fulfilled'])
    t.same(running, ['a', 'b', 'c', 'd'].flatMap((name) => [`${name} begins`, `${name} ends`]))
  })
  t.same(await names(), ['b1', 'b2', 'd1', 'd2'])
})

t.test('a statement from outside waits for the savepoint\'s end, and is not undone with it', async t => {
  await db.scope(async (session) => {
    const inner = session.transaction(async () => {
      await insert(session, 'inner')
      await sleep(20)
      await insert(session, 'inner too')
      throw new Error('no')
    })
    const outside = insert(session, 'outside')
    await t.rejects(inner, { message: 'no' })
    await outside
  })
  t.same(await names(), ['outside'])
})

t.test('statements within fn run at once under Promise.all, inner transactions in turn', async t => {
  await db.scope((session) => session.transaction((session) => Promise.all([
    insert(session, 'a'),
    session.transaction((session) => insert(session, 'b')),
    session.transaction(async (session) => {
      await insert(session, 'c')
      throw new Error('no')
    }).catch(() => {}),
    insert(session, 'd')
  ])))
  t.same(await names(), ['a', 'b', 'd'])
})

t.test('a text of several statements works in transaction(fn), as its first statement too', async t => {
  await db.scope(async (session) => {
    await session.transaction((session) => session.query("INSERT INTO things VALUES ('a'); INSERT INTO things VALUES ('b')"))
    await session.transaction((session) => session.query("INSERT INTO things VALUES ('c'); INSERT INTO things VALUES ('d')"))
    await t.rejects(session.transaction((session) => session.query("INSERT INTO things VALUES ('e'); SELECT 1/0")), { code: '22012' })
    await session.query("INSERT INTO things VALUES ('f'); INSERT INTO things VALUES ('g')")
  })
  t.same(await names(), ['a', 'b', 'c', 'd', 'f', 'g'])
})

t.test('commit() and rollback() inside of transaction(fn) are refused, the error says what to do, and fn has failed', async t => {
  await t.rejects(db.scope((session) => session.transaction(async (session) => {
    await insert(session, 'a')
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /Let fn resolve or throw/ })
    await t.rejects(session.rollback(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  })), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await names(), [])
})

t.test('a transaction(fn) that is not awaited is part of the scope: its work is committed', async t => {
  await db.scope((session) => {
    session.transaction(async () => {
      await insert(session, 'a')
      await sleep(10)
      await insert(session, 'b')
    })
    insert(session, 'outside')
  })
  t.same(await names(), ['a', 'b', 'outside'])
})

t.test('one that fails and is not awaited fails the scope, and nothing is committed', async t => {
  const mine = new Error('mine')
  await t.rejects(db.scope((session) => {
    session.transaction(async () => {
      await insert(session, 'a')
      await sleep(10)
      throw mine
    })
    insert(session, 'outside')
  }), mine)
  t.same(await names(), [])
  await sleep(10)
  t.same(unhandled, [], 'and ends no process by an unhandled rejection')
})

t.test('a scope that fails while a transaction(fn) runs rolls all of it back, and lets nothing else in', async t => {
  let inner!: Promise<unknown>
  await t.rejects(db.scope(async (session) => {
    await insert(session, 'outer')
    inner = session.transaction(async () => {
      await insert(session, 'a')
      await sleep(20)
      await insert(session, 'b')
    })
    throw new Error('early')
  }), { message: 'early' })
  await t.rejects(inner, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.same(await names(), [])
  t.same(unhandled, [])
})

t.test('a transaction(fn) left behind by a failed scope ends no process by an unhandled rejection', async t => {
  await t.rejects(db.scope(async (session) => {
    session.transaction(async () => {
      await sleep(10)
      await insert(session, 'a')
    })
    throw new Error('early')
  }), { message: 'early' })
  await sleep(30)
  t.same(unhandled, [])
})

t.test('a session can be used again after rollback(), where transaction(fn) met a server that refuses connections', async t => {
  const proxy = await startPgProxy(t, postgres)
  proxy.refuse()
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), startupCheck: false
  })
  t.teardown(() => app.close())
  const session = app.db.session()
  await t.rejects(session.transaction((session) => insert(session, 'a')), { code: 'FST_PG_SCOPE_UNREACHABLE', statusCode: 503 })
  t.equal(session.state, 'failed', 'work that was refused must not look committed')
  await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_UNREACHABLE' })
  proxy.refuse(false)
  await session.rollback()
  await session.transaction((session) => insert(session, 'b'))
  await session.commit()
  await session.close()
  t.same(await names(), ['b'])
})

t.test('a connection that dies in transaction(fn) takes the whole transaction with it', async t => {
  await t.rejects(db.scope(async (session) => {
    await insert(session, 'outer')
    await t.rejects(session.transaction(async () => {
      await insert(session, 'inner')
      const { rows: [{ pid }] } = await session.query('SELECT pg_backend_pid() AS pid')
      await postgres.query('SELECT pg_terminate_backend($1, 1000)', [pid])
      await insert(session, 'lost')
    }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
    t.equal(session.state, 'failed')
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', statusCode: 503 })
  t.same(await names(), [])
})

t.test('many savepoints one after the other leave none open on the server', async t => {
  await db.scope(async (session) => {
    for (let i = 0; i < 20; i++) await session.transaction((session) => insert(session, `${i}`))
    await session.query('SELECT 1')
    await t.rejects(session.transaction((inner) => inner.query('ROLLBACK TO scope_20')), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
    // A savepoint that is gone is no_such_savepoint: 3B001.
    await t.rejects(session.query('SELECT 1; ROLLBACK TO SAVEPOINT scope_20'), { code: '3B001' })
    await session.rollback()
  })
})

t.test('every connection came back', async t => {
  t.match(db.stats(), { inUse: 0, waiting: 0 })
  t.notOk((await postgres.activity()).some(({ state }) => state?.startsWith('idle in transaction')))
})
