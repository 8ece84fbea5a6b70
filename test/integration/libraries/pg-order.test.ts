// Calls of a client of pg that the handler does not await, or whose failure it hides: no success is sent without their
// work.
import { AsyncResource } from 'node:async_hooks'
import pg from 'pg'
import Cursor from 'pg-cursor'
import t, { type Test } from 'tap'
import { setTimeout as sleep } from 'node:timers/promises'
import { clientOf, poolOf } from '../../../lib/pg/index.ts'
import { hangUp } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const insert = 'INSERT INTO person (full_name) VALUES ($1)'
const add = (client: pg.ClientBase, name: string) => client.query(insert, [name])

type Handler = (client: pg.PoolClient, session: Session) => unknown

/** Answers one request, and says what it has left: its status and the names that it has added. */
async function start (t: Test) {
  const { app, db, people, database } = await startShop(t, postgres)
  let handler: Handler = () => {}
  for (const mode of ['transaction', 'autocommit'] as const) {
    app.post(`/${mode}`, { config: { db: { mode } } }, async (request) => {
      await handler(clientOf(request.db), request.db)
      return {}
    })
  }
  return {
    db,
    database,
    async answer (run: Handler, mode: 'transaction' | 'autocommit' = 'transaction') {
      handler = run
      const { statusCode } = await app.inject({ method: 'POST', url: `/${mode}` })
      const names = (await people()).slice(2)
      await postgres.query('DELETE FROM person WHERE id > 2', undefined, database)
      t.equal(db.stats().inUse, 0)
      return [statusCode, ...names]
    }
  }
}

t.test('what a handler sends and does not await is saved with its success', async (t) => {
  const { db, answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer((client) => {
      client.query('BEGIN')
      add(client, 'a')
      client.query('COMMIT')
    }, mode), [200, 'a'], mode)
    t.same(await answer(async (client) => {
      await add(client, 'a')
      await client.query('BEGIN')
      await add(client, 'b')
      client.query('COMMIT')
      add(client, 'c')
      client.query('BEGIN')
      client.query('SAVEPOINT s')
      add(client, 'dropped')
      client.query('ROLLBACK TO s')
      add(client, 'd')
      client.query('COMMIT')
      client.query('BEGIN')
      add(client, 'dropped too')
      client.query('ROLLBACK')
      add(client, 'e')
    }, mode), [200, 'a', 'b', 'c', 'd', 'e'], mode)
    t.same(await answer((client) => {
      const done = (error: unknown): void => { t.notOk(error) }
      client.query('BEGIN', done)
      client.query("INSERT INTO person (full_name) VALUES ('a')", done)
      client.query('COMMIT', done)
    }, mode), [200, 'a'], `${mode}: callbacks`)
    t.same(await answer((client) => {
      client.query("BEGIN; INSERT INTO person (full_name) VALUES ('a'); COMMIT")
    }, mode), [200, 'a'], `${mode}: one text`)
    t.same(await answer(() => {
      poolOf(db).query("BEGIN; INSERT INTO person (full_name) VALUES ('a'); COMMIT")
    }, mode), [200, 'a'], `${mode}: one text of a pool`)
  }
})

t.test('a transaction that nobody awaits, and that has no COMMIT or fails, is no success', async (t) => {
  const { db, answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer((client) => {
      client.query('BEGIN')
      add(client, 'half')
    }, mode), [500], mode)
    t.same(await answer((client) => {
      client.query('BEGIN')
      add(client, 'dropped')
      add(client, 'Ada')
      client.query('COMMIT')
    }, mode), [500], mode)
    const text = "BEGIN; INSERT INTO person (full_name) VALUES ('Ada'); COMMIT"
    t.same(await answer((client) => { client.query(text) }, mode), [500], `${mode}: one text`)
    t.same(await answer(() => { poolOf(db).query(text) }, mode), [500], `${mode}: one text of a pool`)
    t.same(await answer(() => { poolOf(db).query('BEGIN') }, mode), [mode === 'autocommit' ? 200 : 500], `${mode}: BEGIN on a pool`)
  }
})

t.test('release() takes its place when it is called, and ROLLBACK before a success is no failure', async (t) => {
  const { answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (client, session) => {
      await client.query('BEGIN')
      await add(client, 'dropped')
      client.query('SAVEPOINT s')
      add(client, 'dropped too')
      client.release()
      add(clientOf(session), 'kept')
    }, mode), [200, 'kept'], mode)
    t.same(await answer((client) => {
      client.query('BEGIN')
      add(client, 'dropped')
      client.release()
    }, mode), [200], mode)
    t.same(await answer(async (client) => {
      await client.query('BEGIN')
      await t.rejects(add(client, 'Ada'), { code: '23505' })
      client.query('ROLLBACK')
    }, mode), [200], mode)
  }
})

t.test('a nested transaction(fn) whose failure was handled does not fail the request while it rolls back', async (t) => {
  const { answer } = await start(t)
  t.same(await answer(async (client, session) => {
    await add(client, 'a')
    const failed = session.transaction(async () => add(clientOf(session), 'Ada'))
    failed.catch(() => {})
  }), [200, 'a'])
})

t.test('a rejected call fails the session, as in PostgreSQL, until it is rolled back', async (t) => {
  const { db, answer } = await start(t)
  const pool = poolOf(db)
  for (const run of [
    (client) => client.query('RELEASE nope'),
    (client) => client.query('ROLLBACK TO nope'),
    async (client) => {
      await client.query('BEGIN')
      await client.query('ROLLBACK TO nope').catch(() => {})
      await client.query('COMMIT').catch(() => {})
      throw new Error('the transaction has failed alone')
    },
    (client) => client.query('BEGIN ISOLATION LEVEL SERIALIZABLE'),
    async () => {
      const client = await pool.connect()
      client.release()
      await add(client, 'lost')
    }
  ] as Handler[]) {
    const isLocal = /alone/.test(`${run}`)
    t.same(await answer(async (client, session) => {
      await add(client, 'a')
      await t.rejects(Promise.resolve(run(client, session)))
    }), isLocal ? [200, 'a'] : [500], `${run}`)
  }
  t.same(await answer(async (client) => {
    await client.query('BEGIN')
    await t.rejects(client.query('RELEASE nope'))
    await client.query('ROLLBACK')
    await add(client, 'a')
  }), [200, 'a'])
})

t.test('a client of a transaction(fn) that has ended rejects its calls, and none is an unhandled rejection', async (t) => {
  const { db, answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (_, session) => {
      const [client, released] = await session.transaction(async (inner) => {
        const pooled = await poolOf(db).connect()
        pooled.release()
        return [clientOf(inner), pooled]
      })
      client.query('BEGIN')
      await t.rejects(released.query('SELECT 1'), { code: 'FST_PG_SCOPE_SESSION_STATE' })
      await t.rejects(client.query('BEGIN'), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
    }, mode), [200], mode)
  }
})

t.test('a transaction does not begin after the end of its session', async (t) => {
  const { answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    let later!: Promise<unknown>
    t.same(await answer((client, session) => {
      later = sleep(100).then(async () => {
        const result = client.query('BEGIN')
        clientOf(session).query('BEGIN')
        await t.rejects(result, { code: 'FST_PG_SCOPE_SESSION_CLOSED' }, mode)
        await add(client, 'too late').catch(() => {})
        await client.query('COMMIT')
      })
    }, mode), [200], mode)
    await later
    t.same(await answer(() => {}, mode), [200], `${mode}: nothing was saved`)
  }
})

t.test('a transaction does not begin while its session ends, but in a transaction(fn) that the end waits for', async (t) => {
  const { answer } = await start(t)
  const slow = 'INSERT INTO person (full_name) SELECT $1 FROM pg_sleep(0.3)'
  const elsewhere = new AsyncResource('elsewhere')
  for (const mode of ['transaction', 'autocommit'] as const) {
    let later!: Promise<unknown>
    t.same(await answer((client) => {
      client.query(slow, ['a'])
      later = sleep(50).then(async () => {
        await t.rejects(client.query('BEGIN'), { code: 'FST_PG_SCOPE_SESSION_CLOSED' }, mode)
        await t.rejects(add(client, 'too late'), { code: 'FST_PG_SCOPE_SESSION_CLOSED' }, mode)
      })
    }, mode), [200, 'a'], mode)
    await later
    t.same(await answer((_, session) => {
      session.transaction(async (inner) => {
        const client = clientOf(inner)
        await client.query(slow, ['a'])
        await elsewhere.runInAsyncScope(async () => {
          await client.query('BEGIN')
          await add(client, 'b')
          await client.query('COMMIT')
        })
      })
    }, mode), [200, 'a', 'b'], mode)
  }
})

t.test('a COMMIT that comes after the end of a scope has begun is too late', async (t) => {
  const { db, database } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    let late!: Promise<unknown>
    await t.rejects(db.scope(async (session) => {
      const client = clientOf(session)
      await client.query('BEGIN')
      client.query('INSERT INTO person (full_name) SELECT \'half\' FROM pg_sleep(0.3)')
      late = sleep(50).then(() => client.query('COMMIT')).catch(() => {})
    }, { mode }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, mode)
    await late
    const { rows } = await postgres.query('SELECT FROM person WHERE full_name = \'half\'', undefined, database)
    t.equal(rows.length, 0)
  }
})

t.test('a transaction that a transaction(fn) leaves behind while its last statement runs is begun around it', { timeout: 120000 }, async (t) => {
  const { answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (_, session) => {
      let late!: Promise<unknown>
      const outer: Promise<unknown> = session.transaction(() => {
        session.query('INSERT INTO person (full_name) SELECT \'a\' FROM pg_sleep(0.3)')
        late = sleep(50).then(async () => {
          const client = clientOf(session)
          client.query('BEGIN')
          await outer
          await add(client, 'b')
          await client.query('COMMIT')
        })
      })
      await outer
      await late
    }, mode), [200, 'a', 'b'], mode)
  }
})

t.test('a transaction that waits when its request is aborted does not begin', async (t) => {
  const { app, db, people } = await startShop(t, postgres)
  const codes: unknown[] = []
  app.get('/', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    const first = clientOf(request.db)
    const second = clientOf(request.db)
    const calls = [
      first.query('BEGIN'), first.query('SELECT pg_sleep(60)'), second.query('BEGIN'), add(second, 'too late'), second.query('COMMIT')
    ]
    for (const { reason } of await Promise.allSettled(calls) as PromiseRejectedResult[]) codes.push(reason?.code)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  await hangUp((app.server.address() as { port: number }).port, { method: 'GET', path: '/' }, { after: 300 })
  await waitFor(() => codes.length > 0)
  t.same(codes, [undefined, ...Array(4).fill('FST_PG_SCOPE_CANCELED')])
  await waitFor(() => db.stats().inUse === 0)
  t.same(await people(), ['Ada', 'Grace'])
})

t.test('SAVEPOINT without BEGIN begins a transaction, which ROLLBACK TO undoes', async (t) => {
  const { answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (client) => {
      await client.query('SAVEPOINT s')
      await add(client, 'undone')
      await client.query('ROLLBACK TO s')
      await t.rejects(add(client, 'Ada'), { code: '23505' })
      await client.query('ROLLBACK TO s')
      await add(client, 'a')
      await client.query('RELEASE s')
      await client.query('SAVEPOINT s')
      await t.rejects(add(client, 'Ada'), { code: '23505' })
      await client.query('ROLLBACK TO s')
      await client.query('RELEASE s')
    }, mode), [200, 'a'], mode)
  }
})

t.test('a call that has lost the async context of transaction(fn) is part of the transaction that was begun there', async (t) => {
  const { answer } = await start(t)
  const elsewhere = new AsyncResource('elsewhere')
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (client, session) => {
      const lost = (name: string): Promise<unknown> => elsewhere.runInAsyncScope(() => add(client, name))
      await session.transaction(async () => {
        await client.query('BEGIN')
        await lost('undone')
        await client.query('ROLLBACK')
        client.query('BEGIN')
        lost('a')
        client.query('COMMIT')
        lost('b')
      })
    }, mode), [200, 'a', 'b'], mode)
  }
})

t.test('values are those of the moment of the call', async (t) => {
  const { db, database, answer } = await start(t)
  const change: Handler = (client) => {
    const values = ['a']
    const bytes = Buffer.from('b')
    client.query('BEGIN')
    client.query(insert, values)
    client.query('INSERT INTO person (full_name) VALUES (convert_from($1, \'UTF8\'))', [bytes])
    client.query('COMMIT')
    const config = { text: insert, values: ['c'] }
    client.query(config)
    values[0] = config.values[0] = 'changed'
    bytes.write('x')
  }
  for (const mode of ['transaction', 'autocommit'] as const) t.same(await answer(change, mode), [200, 'a', 'b', 'c'], mode)
  const client = await poolOf(db).connect()
  change(client, null as never)
  await client.query('SELECT 1')
  client.release()
  t.same((await postgres.query('SELECT full_name FROM person WHERE id > 2 ORDER BY id', undefined, database)).rows.map(({ full_name: name }) => name), ['a', 'b', 'c'])
  await postgres.query('DELETE FROM person WHERE id > 2', undefined, database)
})

t.test('AND CHAIN keeps the modes', async (t) => {
  const { db, answer } = await start(t)
  const modes = "SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS only"
  const expected = [{ level: 'serializable', only: 'on' }]
  const run = async (client: pg.ClientBase): Promise<void> => {
    await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
    for (const end of ['COMMIT AND CHAIN', 'ROLLBACK AND CHAIN', 'COMMIT']) {
      t.same((await client.query(modes)).rows, expected, end)
      await client.query(end)
    }
  }
  const client = await poolOf(db).connect()
  await run(client)
  client.release()
  for (const mode of ['transaction', 'autocommit'] as const) t.same(await answer(run, mode), [200])
})

t.test('modes that the session has already are accepted at any time', async (t) => {
  const { db } = await startShop(t, postgres)
  for (const [options, begin] of [
    [{}, 'BEGIN ISOLATION LEVEL READ COMMITTED'], [{}, 'BEGIN READ WRITE, NOT DEFERRABLE'],
    [{ isolation: 'serializable' }, 'BEGIN ISOLATION LEVEL SERIALIZABLE'],
    [{ readOnly: true }, 'BEGIN READ ONLY'],
    [{ isolation: 'serializable', readOnly: true, deferrable: true }, 'BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE']
  ] as const) {
    await db.scope(async (session) => {
      const client = clientOf(session)
      for (let i = 0; i < 2; i++) {
        await client.query(begin)
        await client.query('SELECT 1')
        await client.query('COMMIT')
      }
    }, options)
  }
})

t.test('work that has committed is not lost with a transaction that it has nothing to do with', async (t) => {
  const { answer } = await start(t)
  const transaction = async (session: Session, name: string, wait: number, fails: boolean): Promise<void> => {
    const client = clientOf(session)
    await sleep(0)
    await client.query('BEGIN')
    try {
      await add(client, name)
      await sleep(wait)
      if (fails) throw new Error('mine')
      await client.query('COMMIT')
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    }
  }
  t.same(await answer(async (_, session) => {
    const first = transaction(session, 'a', 60, true)
    await sleep(20)
    await transaction(session, 'b', 0, false)
    await first.catch(() => {})
  }), [500], 'beside')
  t.same(await answer(async (client, session) => {
    await client.query('BEGIN')
    await transaction(session, 'inside', 0, false)
    await client.query('ROLLBACK')
    await add(client, 'b')
  }), [200, 'b'], 'inside')
})

t.test('commit() of the session while a library\'s transaction is open is refused, and keeps nothing of it', async (t) => {
  const { answer } = await start(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    t.same(await answer(async (client, session) => {
      await client.query('BEGIN')
      await add(client, 'half')
      await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /neither committed nor rolled back before commit\(\)/ })
    }, mode), [500], mode)
    t.same(await answer(async (client, session) => {
      await client.query('BEGIN')
      await add(client, 'a')
      client.query('COMMIT')
      await session.commit()
      await client.query('BEGIN')
      await add(client, 'undone')
      await session.rollback()
      await t.rejects(add(client, 'not sent'))
      await client.query('ROLLBACK')
      await add(client, 'b')
    }, mode), [200, 'a', 'b'], mode)
  }
  t.same(await answer(async (client, session) => {
    await client.query('BEGIN')
    await session.rollback()
    await t.rejects(add(client, 'lost'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  }), [500], 'a call that was rejected, in a transaction that its client has not left')
})

t.test('a cursor takes its place when it is opened', async (t) => {
  const { answer } = await start(t)
  t.same(await answer(async (client) => {
    client.query('BEGIN')
    add(client, 'a')
    const cursor = client.query(new Cursor<{ n: number }>('SELECT count(*)::int AS n FROM person WHERE id > 2'))
    add(client, 'b')
    t.same(await cursor.read(1), [{ n: 1 }])
    await cursor.close()
    client.query('COMMIT')
  }), [200, 'a', 'b'])
})

t.test('a text with several statements stops at the first failure, and its transaction can be rolled back', async (t) => {
  const { db, database, answer } = await start(t)
  const bad = "INSERT INTO person (full_name) VALUES ('x'); SELECT 1/0"
  const run: Handler = async (client) => {
    for (const end of ['COMMIT', 'ROLLBACK', 'COMMIT AND CHAIN']) {
      const text = `BEGIN; ${bad}; ${end}; INSERT INTO person (full_name) VALUES ('not run')`
      await t.rejects(client.query(text), { code: '22012' }, end)
      t.equal(client.getTransactionStatus?.(), 'E', end)
      await client.query('ROLLBACK')
    }
  }
  t.same(await answer(run), [200])
  const client = await poolOf(db).connect()
  await run(client, null as never)
  client.release()
  t.same((await postgres.query('SELECT FROM person WHERE id > 2', undefined, database)).rowCount, 0)
})

onlyDirect(t, 'a pooler has rules of its own for temporary tables')
  .test('outside of sessions, what a statement would leave on its connection is refused with the alternative', async (t) => {
    const { db } = await startShop(t, postgres)
    const client = await poolOf(db).connect()
    for (const text of [
      'SET search_path TO pg_catalog', 'set session statement_timeout = 1', 'CREATE TEMP TABLE x (a int)', 'PREPARE p AS SELECT 1',
      'EXECUTE p', "SELECT set_config('search_path', 'x', false)", '/* x */ LISTEN a', 'SELECT pg_try_advisory_lock(1)'
    ]) {
      await t.rejects(client.query(text), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /app\.db\.lease\(fn\)/ }, text)
    }
    await client.query("SELECT 'use pg_advisory_lock(1) and LISTEN here'")
    await client.query('CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (1); SELECT * FROM x')
    await client.query("SET search_path TO pg_catalog; SELECT set_config('a.b', 'c', true)")
    await client.query('BEGIN')
    await client.query('CREATE TEMP TABLE x (a int) ON COMMIT DROP')
    t.same((await client.query('SELECT * FROM x')).rows, [])
    await client.query('COMMIT')
    client.release()
  })

t.test('nothing was unhandled', async (t) => {
  t.same(unhandled, [])
})
