// How the transactions of several clients on one session go together.
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import t from 'tap'
import { clientOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session } from '../../../types/session.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

const add = (client: pg.ClientBase, name: string) => client.query('INSERT INTO person (full_name) VALUES ($1)', [name])

t.test('a repository that ignores the transaction it is in is part of it, and may begin one of its own', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const repository = async (session: Session, name: string): Promise<void> => {
    await add(clientOf(session), name)
    const own = clientOf(session)
    await own.query('BEGIN')
    await add(own, `${name} too`)
    await own.query('COMMIT')
    await session.transaction((session) => add(clientOf(session), `${name} three`))
  }
  await db.scope(async (session) => {
    const client = clientOf(session)
    for (const end of ['ROLLBACK', 'COMMIT']) {
      await client.query('BEGIN')
      await repository(session, end)
      await client.query('SELECT 1')
      await client.query(end)
    }
  })
  t.same(await people(), ['Ada', 'Grace', 'COMMIT', 'COMMIT too', 'COMMIT three'])
})

t.test('a rollback of the outer transaction ends an inner one, whose client learns it', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const [outer, inner] = [clientOf(session), clientOf(session)]
    await outer.query('BEGIN')
    await inner.query('BEGIN')
    await add(inner, 'dropped')
    await outer.query('ROLLBACK')
    const error = { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /rolled back with another one/ }
    await t.rejects(add(inner, 'not sent'), error)
    await t.rejects(inner.query('COMMIT'), error)
    await outer.query('BEGIN')
    await inner.query('BEGIN')
    await outer.query('ROLLBACK')
    await inner.query('ROLLBACK')
    await add(inner, 'kept')
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

/** What libraries do. */
async function transaction (session: Session, work: (client: pg.ClientBase) => Promise<unknown>): Promise<void> {
  const client = clientOf(session)
  await client.query('BEGIN')
  try {
    await work(client)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}

t.test('transactions that begin side by side run one after the other, and fail alone', async (t) => {
  for (const mode of ['transaction', 'autocommit'] as const) {
    const { db, people } = await startShop(t, postgres)
    await db.scope(async (session) => {
      const results = await Promise.allSettled(['a', 'b', 'c', 'd'].map((name, index) => transaction(session, async (client) => {
        await add(client, name)
        await sleep(5 - index)
        await add(client, `${name} too`)
        if (index === 1) throw new Error('mine')
      })))
      t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
    }, { mode })
    t.same(await people(), ['Ada', 'Grace', 'a', 'a too', 'c', 'c too', 'd', 'd too'])
  }
})

t.test('calls that nobody awaits stay in the transaction of their client, one transaction after the other', async (t) => {
  for (const mode of ['transaction', 'autocommit'] as const) {
    const { db, people } = await startShop(t, postgres)
    await db.scope(async (session) => {
      const clients = ['a', 'b', 'c'].map((name) => ({ name, client: clientOf(session) }))
      for (const { client } of clients) client.query('BEGIN')
      for (const { client, name } of clients) add(client, name)
      for (const { client, name } of clients) client.query(name === 'b' ? 'ROLLBACK' : 'COMMIT')
      for (const { client, name } of clients) add(client, `${name} after`)
      t.equal(db.stats().inUse + db.stats().waiting, 1, 'one connection')
    }, { mode })
    const [, , ...added] = await people()
    t.same(added.filter((name) => !name.includes(' ')), ['a', 'c'], mode)
    t.same(added.filter((name) => name.includes(' ')).sort(), ['a after', 'b after', 'c after'], mode)
  }
})

t.test('a transaction that begins while another is busy is waited for, and rolled back without the work of that one', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const begun = new EventEmitter()
    const hasBegun = once(begun, 'begun')
    const results = await Promise.allSettled([
      transaction(session, async (client) => {
        await add(client, 'a')
        await hasBegun
        await add(client, 'b')
        await client.query('SAVEPOINT s')
        await add(client, 'c')
      }),
      sleep(5).then(() => transaction(session, async (client) => {
        begun.emit('begun')
        await add(client, 'dropped')
        await sleep(5)
        await add(client, 'dropped too')
        throw new Error('mine')
      }))
    ])
    t.same(results.map(({ status }) => status), ['fulfilled', 'rejected'])
  })
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c'])
})

t.test('the client of an outer transaction, used inside of an inner one, is rejected and does not hang', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    await add(clientOf(session), 'kept')
    await t.rejects(transaction(session, async (outer) => {
      await transaction(session, async (inner) => {
        await add(inner, 'inner')
        await add(outer, 'outer')
      })
    }), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /waited 5000 ms/ })
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('a session does not commit half of a transaction that its library has not ended', async (t) => {
  const { app, db, people } = await startShop(t, postgres)
  const unfinished = { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /neither committed nor rolled back/ }
  const begin = async (session: Session): Promise<pg.PoolClient> => {
    const client = clientOf(session)
    await client.query('BEGIN')
    await add(client, 'half')
    return client
  }
  app.post('/', async (request) => {
    transaction(request.db, async (client) => {
      await add(client, 'half')
      await sleep(20)
      await add(client, 'too late')
    }).catch(() => {})
    await sleep(5)
    return {}
  })
  t.match((await app.inject({ method: 'POST', url: '/' })).json(), { statusCode: 500, code: unfinished.code })
  await t.rejects(db.scope(begin), unfinished)
  await t.rejects(db.scope((session) => session.transaction(begin)), unfinished)
  await using session = db.session()
  await begin(session)
  await t.rejects(session.commit(), unfinished)
  await session.rollback()
  await db.scope(async (session) => { (await begin(session)).release() })
  t.same(await people(), ['Ada', 'Grace'])
})
