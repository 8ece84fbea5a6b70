// What a library that was written for pg can rely on, on the client of a session.
import { EventEmitter, once } from 'node:events'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { to as copyTo } from 'pg-copy-streams'
import SQL from '@nearform/sql'
import sql from 'sql-template-tag'
import t from 'tap'
import { clientOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { withoutSettings } from '../../../harness/variant.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const add = (client: pg.ClientBase, name: string) => client.query('INSERT INTO person (full_name) VALUES ($1)', [name])

t.test('it has the forms of pg: promises, callbacks, configs, and objects of template tags', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    t.ok(client instanceof pg.Client && client instanceof EventEmitter)
    t.match((await client.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    t.match((await client.query('SELECT $1::int AS a', [2])).rows, [{ a: 2 }])
    const named = { text: 'SELECT $1::int AS a', values: [3], name: 'three' }
    t.match(await client.query(named), { rows: [{ a: 3 }], rowCount: 1, command: 'SELECT' })
    t.same((await client.query({ text: 'SELECT $1::int', values: [4], rowMode: 'array' })).rows, [[4]])
    t.same((await client.query({ text: 'SELECT $1::int AS a' }, [5])).rows, [{ a: 5 }])
    const types = { getTypeParser: () => (value: string) => `<${value}>` }
    t.same((await client.query({ text: 'SELECT 6 AS a', types } as pg.QueryConfig)).rows, [{ a: '<6>' }])
    t.same((await clientOf(session, { types } as never).query('SELECT 7 AS a')).rows, [{ a: '<7>' }])
    t.same((await client.query(sql`SELECT ${8}::int AS a`)).rows, [{ a: 8 }])
    t.same((await client.query(SQL`SELECT ${9}::int AS a`)).rows, [{ a: 9 }])
    const called = (...args: any[]) => new Promise((resolve, reject) => {
      const callback = (error: unknown, result: any): void => error ? reject(error) : resolve(result.rows)
      const result = (client.query as any)(...args, callback)
      t.equal(result, undefined)
    })
    t.same(await called('SELECT 10 AS a'), [{ a: 10 }])
    t.same(await called('SELECT $1::int AS a', [11]), [{ a: 11 }])
    t.same(await called({ text: 'SELECT $1::int AS a' }, [12]), [{ a: 12 }])
    t.same((await client.query('SELECT 1 AS a; SELECT 2 AS a') as unknown as pg.QueryResult[]).map(({ rows }) => rows[0].a), [1, 2])
    t.equal(client.escapeIdentifier('a"b'), '"a""b"')
    t.equal(client.escapeLiteral("it's"), "'it''s'")
    client.setTypeParser(23, (value) => `int ${value}`)
    t.same((await client.query('SELECT 13 AS a')).rows, [{ a: 'int 13' }])
    t.equal(await client.connect(), client)
    client.release()
    t.same((await client.query("SELECT 'on' AS a")).rows, [{ a: 'on' }], 'the session is not over')
  })
})

t.test('errors are those of pg, and a callback that throws is an uncaught exception, as with pg', async (t) => {
  const { db } = await startShop(t, postgres)
  await t.rejects(db.scope(async (session) => {
    await t.rejects(add(clientOf(session), 'Ada'), { code: '23505', constraint: 'person_name_taken', name: 'error' })
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } }, 'a failure that the library hides fails the scope')
  await t.rejects(db.scope((session) => new Promise<void>((resolve, reject) => {
    clientOf(session).query('SELECT 1/0', (error) => error ? reject(error) : resolve())
  })), { code: '22012' })
})

t.test('BEGIN … COMMIT of a library is a savepoint: ROLLBACK undoes it alone, and restores a failed session', async (t) => {
  const { db, people, proxy } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    for (const [begin, end] of [['BEGIN', 'COMMIT'], ['begin;', 'end;'], ['/* x */ START TRANSACTION', 'commit work'], ['BEGIN WORK', 'END TRANSACTION']] as const) {
      t.equal((await client.query(begin)).command, 'BEGIN')
      await add(client, begin)
      t.equal((await client.query(end)).command, 'COMMIT')
    }
    for (const end of ['ROLLBACK', 'abort;', 'ROLLBACK WORK']) {
      await client.query('BEGIN')
      await add(client, 'dropped')
      await t.rejects(add(client, 'Ada'), { code: '23505' })
      t.equal(client.getTransactionStatus?.(), 'E')
      t.equal((await client.query(end)).command, 'ROLLBACK')
      t.equal(client.getTransactionStatus?.(), 'I')
    }
    await add(client, 'last')
  })
  t.same(await people(), ['Ada', 'Grace', 'BEGIN', 'begin;', '/* x */ START TRANSACTION', 'BEGIN WORK', 'last'])
  t.equal(withoutSettings(proxy.executed).filter((text) => text === 'COMMIT').length, 1)
})

t.test('COMMIT of a failed transaction is an error and undoes it, and without BEGIN it does nothing', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    await client.query('BEGIN')
    await add(client, 'dropped')
    await t.rejects(add(client, 'Ada'), { code: '23505' })
    await t.rejects(client.query('COMMIT'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
    for (const text of ['COMMIT', 'ROLLBACK', 'BEGIN', 'BEGIN', 'COMMIT', 'COMMIT']) await client.query(text)
    await add(client, 'kept')
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('SAVEPOINT, RELEASE and ROLLBACK TO work as in PostgreSQL, with names in quotes, and in any depth', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    await client.query('BEGIN')
    await client.query('SAVEPOINT "the ""first"""')
    await add(client, 'a')
    await client.query('SAVEPOINT Second')
    await add(client, 'dropped')
    await t.rejects(add(client, 'Ada'), { code: '23505' })
    await client.query('ROLLBACK TO SAVEPOINT second')
    await add(client, 'dropped again')
    await client.query('rollback work to "second"')
    await add(client, 'b')
    await client.query(`SAVEPOINT ${'x'.repeat(80)}`)
    await add(client, 'c')
    await client.query('RELEASE SAVEPOINT "the ""first"""')
    await client.query('SAVEPOINT third')
    await t.rejects(client.query('RELEASE second'), { code: 'FST_PG_SCOPE_SESSION_STATE' })
    await t.rejects(client.query('SELECT 1'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await client.query('ROLLBACK TO third')
    await client.query('COMMIT AND CHAIN')
    await add(client, 'dropped')
    await client.query('ROLLBACK')
    await client.query('SAVEPOINT alone')
    await add(client, 'dropped')
    await client.query('ROLLBACK TO alone')
    await client.query('RELEASE alone')
    await add(client, 'd')
  })
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c', 'd'])
})

t.test('a text with several statements may begin and end transactions', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    const insert = (name: string): string => `INSERT INTO person (full_name) VALUES ('${name}')`
    await client.query(`BEGIN; SET LOCAL lock_timeout = '1s'; ${insert('a; COMMIT')}; ${insert('b')};\nCOMMIT;`)
    await client.query(`BEGIN; ${insert('dropped')}; ROLLBACK; ${insert('c')}`)
    await client.query(`BEGIN; CREATE FUNCTION one() RETURNS int BEGIN ATOMIC SELECT 2; SELECT 1; END; ${insert('d')}; COMMIT`)
    await t.rejects(client.query(`BEGIN; ${insert('dropped')}; SELECT 1/0; COMMIT`), { code: '22012' })
    await client.query('ROLLBACK')
    t.same((await client.query('SELECT one()')).rows, [{ one: 1 }])
  })
  t.same(await people(), ['Ada', 'Grace', 'a; COMMIT', 'b', 'c', 'd'])
})

t.test('statements keep the order in which they were called, also around BEGIN and COMMIT that are not awaited', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    const calls = [
      add(client, 'a'), client.query('BEGIN'), add(client, 'b'), client.query('COMMIT'), add(client, 'c'),
      client.query('BEGIN'), add(client, 'dropped'), client.query('ROLLBACK'), add(client, 'd')
    ]
    await Promise.all(calls)
  })
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c', 'd'])
})

t.test('a failed statement that is not awaited fails the session, and is no unhandled rejection', async (t) => {
  const { db, people } = await startShop(t, postgres)
  for (const text of ['BEGIN', 'SELECT 1']) {
    await t.rejects(db.scope(async (session) => {
      const client = clientOf(session)
      client.query(text)
      add(client, 'dropped')
      add(client, 'Ada')
      if (text === 'BEGIN') await client.query('COMMIT')
    }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
  }
  t.same(await people(), ['Ada', 'Grace'])
})

t.test('five statements under Promise.all share one round trip, inside of BEGIN … COMMIT as well', async (t) => {
  const { db, proxy } = await startShop(t, postgres, { preparedStatements: 0 })
  const five = (client: pg.ClientBase) => Promise.all([1, 2, 3, 4, 5].map((n) => client.query('SELECT $1::int', [n])))
  await db.scope((session) => five(clientOf(session)))
  t.match(proxy, { roundTrips: 2, syncs: 2 }, 'and COMMIT')
  proxy.reset()
  await db.scope(async (session) => {
    const client = clientOf(session)
    await client.query('BEGIN')
    await five(client)
    await client.query('COMMIT')
  })
  t.match(proxy, { roundTrips: 2, syncs: 2 })
})

const modes = 'SELECT current_setting(\'transaction_isolation\') AS level, current_setting(\'transaction_read_only\') AS only'

t.test('an isolation level holds where nothing has run yet; afterwards it is accepted if the transaction has it, and a clear error if not', async (t) => {
  const { db, people } = await startShop(t, postgres)
  for (const mode of ['transaction', 'autocommit'] as const) {
    for (const texts of [
      ['BEGIN ISOLATION LEVEL SERIALIZABLE'], ['START TRANSACTION', 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;'],
      ['begin transaction isolation level serializable, not deferrable'], ['BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE']
    ]) {
      const session = db.session({ mode })
      const client = clientOf(session)
      for (const text of texts) await client.query(text)
      t.match((await client.query(modes)).rows, [{ level: 'serializable', only: 'off' }], `${mode}: ${texts}`)
      await client.query('COMMIT')
      if (mode === 'transaction') {
        for (const text of texts) await client.query(text)
        await client.query('COMMIT')
        for (const other of texts.map((text) => text.replace(/serializable/i, 'REPEATABLE READ'))) {
          const error = { code: 'FST_PG_SCOPE_SESSION_STATE', details: /ISOLATION LEVEL REPEATABLE READ.*before its first statement/, cause: { code: '25001' } }
          if (/isolation/i.test(other)) await t.rejects(client.query(other), error, other)
          else await client.query(other)
        }
        await t.rejects(client.query('SELECT 1'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
        await client.query('ROLLBACK')
        await add(client, `${texts}`)
      }
      await session.commit()
      await session.close()
    }
  }
  t.equal((await people()).length, 6)
})

t.test('READ ONLY ends with the library\'s transaction, wherever it begins', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    for (const [name, ...texts] of [['a', 'BEGIN READ ONLY'], ['b', 'START TRANSACTION READ ONLY'], ['c', 'BEGIN', 'SET TRANSACTION READ ONLY']]) {
      for (const text of texts) await client.query(text)
      t.match((await client.query(modes)).rows, [{ only: 'on' }])
      await t.rejects(add(client, 'refused'), { code: '25006' })
      await client.query('ROLLBACK')
      await add(client, name!)
      for (const text of texts) await client.query(text)
      await client.query('COMMIT')
    }
    t.match((await client.query(modes)).rows, [{ only: 'off' }])
  })
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c'])
})

t.test('release() and end() roll back what the library left open, and so does a client that is not the first', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    for (const end of ['release', 'end'] as const) {
      const client = clientOf(session) as pg.PoolClient & pg.Client
      await client.query('BEGIN')
      await add(client, 'dropped')
      await client[end]()
      await add(client, end)
    }
    const client = clientOf(session) as unknown as pg.Client
    const ended = once(client, 'end')
    await new Promise<void>((resolve) => { client.end(() => resolve()) })
    await ended
  })
  t.same(await people(), ['Ada', 'Grace', 'release', 'end'])
})

t.test('in mode autocommit each statement is committed by itself, and BEGIN … COMMIT are a transaction', async (t) => {
  const { app, people } = await startShop(t, postgres)
  app.post('/', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    const client = clientOf(request.db)
    await add(client, 'a')
    await client.query('BEGIN')
    await add(client, 'b')
    await clientOf(request.db).query('SELECT 1')
    await client.query('COMMIT')
    await client.query('BEGIN')
    await add(client, 'dropped')
    await client.query('SAVEPOINT s')
    await t.rejects(add(client, 'Ada'), { code: '23505' })
    await client.query('ROLLBACK TO s')
    await client.query('ROLLBACK')
    await t.rejects(add(client, 'Ada'), { code: '23505' })
    throw new Error('too late')
  })
  t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 500)
  t.same(await people(), ['Ada', 'Grace', 'a', 'b'])
})

t.test('pg-cursor and pg-query-stream read rows, to their end and in part, and report errors', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const client = clientOf(session)
    const cursor = client.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, $1::int) AS n', [5]))
    t.same(await cursor.read(2), [{ n: 1 }, { n: 2 }])
    t.same(await cursor.read(10), [{ n: 3 }, { n: 4 }, { n: 5 }])
    t.same(await cursor.read(2), [])
    await cursor.close()
    const arrays = client.query(new Cursor('SELECT n, n FROM generate_series(1, 500) AS n', [], { rowMode: 'array' }))
    t.same(await arrays.read(1), [[1, 1]])
    await arrays.close()
    await client.query('BEGIN')
    let sum = 0
    for await (const { n } of client.query(new QueryStream('SELECT n FROM generate_series(1, $1::int) AS n', [2000]))) sum += n
    t.equal(sum, 2001000)
    for await (const { n } of client.query(new QueryStream('SELECT n FROM generate_series(1, 100000) AS n'))) if (n === 150) break
    await client.query('COMMIT')
    t.same((await client.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    await client.query('BEGIN')
    await t.rejects(client.query(new Cursor('SELECT 1 / (3 - n) AS q FROM generate_series(1, 5) AS n')).read(5), { code: '22012' })
    await client.query('ROLLBACK')
    const seen: unknown[] = []
    await pipeline(client.query(new QueryStream('SELECT 1 AS a')), new Writable({ objectMode: true, write: (row, _, done) => { seen.push(row); done() } }))
    t.same(seen, [{ a: 1 }])
  })
})

t.test('what a session cannot do is rejected with the alternative, and fails the session', async (t) => {
  const { db } = await startShop(t, postgres)
  const rejected = { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /app\.db\.lease\(fn\)/ }
  for (const run of [
    (client: pg.ClientBase) => pipeline(client.query(copyTo('COPY person TO STDOUT')), new Writable({ write: (_chunk, _encoding, done) => done() })),
    (client: pg.ClientBase) => client.query(new pg.Query('SELECT 1')) as unknown as Promise<unknown>
  ]) {
    await t.rejects(db.scope(async (session) => {
      await t.rejects(run(clientOf(session)), rejected)
    }), 'the scope')
  }
  for (const source of [undefined, null, {}, 'postgres://']) {
    t.throws(() => clientOf(source as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /clientOf\(\)/ })
  }
})

t.test('every connection came back, and nothing was unhandled', async (t) => {
  t.same(unhandled, [])
})
