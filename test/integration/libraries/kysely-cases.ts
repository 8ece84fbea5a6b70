// What a user of Kysely can rely on, for each version that is supported.
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { CamelCasePlugin, type Generated, type Kysely, sql } from 'kysely'
import { jsonArrayFrom } from 'kysely/helpers/postgres'
import { kyselyOf } from '../../../lib/kysely/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, withoutSettings } from '../../../harness/variant.ts'
import { startShop } from './shop.ts'

interface Shop {
  person: { id: Generated<number>, full_name: string, balance: Generated<number> }
  pet: { id: Generated<number>, owner_id: number, name: string }
}

/** Where it is depends on the version. */
const { Migrator } = await import('kysely/migration').catch(() => import('kysely')) as typeof import('kysely/migration')

export const postgres = await startTestPostgres(t)

const add = (db: Kysely<Shop>, name: string) => db.insertInto('person').values({ full_name: name }).returning(['id', 'full_name']).executeTakeFirstOrThrow()
const read = (db: Kysely<Shop>, id: number) => db.selectFrom('person').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
const names = async (db: Kysely<Shop>): Promise<string[]> => (await db.selectFrom('person').select('full_name').orderBy('id').execute()).map((row) => row.full_name)

t.test('a request commits what Kysely wrote, and a throw rolls it back', async (t) => {
  const { app, people } = await startShop(t, postgres)
  app.post('/people/:name', async (request, reply) => {
    const { name } = request.params as { name: string }
    const person = await add(kyselyOf<Shop>(request.db), name)
    if (name === 'Nobody') throw new Error('not this one')
    return reply.code(201).send(person)
  })
  const created = await app.inject({ method: 'POST', url: '/people/Alan' })
  t.equal(created.statusCode, 201)
  t.match(created.json(), { id: 3, full_name: 'Alan' })
  t.equal((await app.inject({ method: 'POST', url: '/people/Nobody' })).statusCode, 500)
  t.same(await people(), ['Ada', 'Grace', 'Alan'])
})

t.test('joins, relations as JSON, counts of changed rows and raw SQL work', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    t.same(await kysely.selectFrom('pet').innerJoin('person', 'person.id', 'pet.owner_id').select(['full_name', 'name']).orderBy('pet.id').execute(), [
      { full_name: 'Ada', name: 'Rex' }, { full_name: 'Ada', name: 'Tom' }, { full_name: 'Grace', name: 'Kit' }
    ])
    const withPets = kysely.selectFrom('person').select((eb) => [
      'full_name', jsonArrayFrom(eb.selectFrom('pet').select('pet.name').whereRef('pet.owner_id', '=', 'person.id').orderBy('pet.id')).as('pets')
    ])
    t.same(await withPets.where('id', '=', 1).execute(), [{ full_name: 'Ada', pets: [{ name: 'Rex' }, { name: 'Tom' }] }])
    t.same(await kysely.updateTable('person').set({ balance: 5 }).execute(), [{ numUpdatedRows: 2n }])
    t.equal((await kysely.deleteFrom('pet').where('id', '=', 3).executeTakeFirst()).numDeletedRows, 1n)
    t.equal((await kysely.insertInto('pet').values({ owner_id: 1, name: 'Leo' }).executeTakeFirst()).numInsertedOrUpdatedRows, 1n)
    t.same((await sql<{ one: number }>`SELECT ${1}::int AS one`.execute(kysely)).rows, [{ one: 1 }])
    t.same((await sql.raw('CREATE TABLE a (n int); CREATE TABLE b (n int)').execute(kysely)).rows, [])
  })
})

t.test('five reads under Promise.all share one round trip, in a transaction of Kysely as well', async (t) => {
  const { db, proxy } = await startShop(t, postgres, { preparedStatements: 0 })
  const five = (kysely: Kysely<Shop>) => Promise.all([1, 2, 1, 2, 1].map((id) => read(kysely, id)))
  await db.scope((session) => five(kyselyOf<Shop>(session)))
  t.match(proxy, { roundTrips: 2, syncs: 2 }, 'and COMMIT')
  proxy.reset()
  await db.scope((session) => kyselyOf<Shop>(session).transaction().execute(five))
  t.match(proxy, { roundTrips: 2, syncs: 2 })
  proxy.reset()
  await kyselyOf<Shop>(db).transaction().execute(five)
  t.match(proxy, { roundTrips: 2, syncs: 2 }, 'on the engine')
})

t.test('statements run in the order in which they were called', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    await Promise.all([
      add(kysely, 'first'),
      session.query("INSERT INTO person (full_name) VALUES ('second')"),
      add(kysely.withPlugin(new CamelCasePlugin()), 'third'),
      add(kyselyOf<Shop>(session), 'fourth')
    ])
  })
  t.same(await people(), ['Ada', 'Grace', 'first', 'second', 'third', 'fourth'])
})

t.test('a transaction of Kysely that throws is rolled back alone, and its error is intact', async (t) => {
  const { db, people, proxy } = await startShop(t, postgres)
  const mine = new Error('mine')
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    await add(kysely, 'kept')
    await t.rejects(kysely.transaction().execute(async (trx) => {
      await add(trx, 'dropped')
      throw mine
    }), mine)
    await t.rejects(kysely.transaction().execute((trx) => add(trx, 'Ada')), { code: '23505', constraint: 'person_name_taken' })
    const added = await kysely.transaction().execute(async (trx) => {
      t.equal(trx.isTransaction, true)
      return await add(trx, 'nested')
    })
    t.equal(added.full_name, 'nested')
  })
  t.same(await people(), ['Ada', 'Grace', 'kept', 'nested'])
  t.equal(withoutSettings(proxy.executed).filter((text) => text === 'COMMIT').length, 1)
})

t.test('what a repository writes with the outer instance inside of a transaction belongs to it', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const outer = kyselyOf<Shop>(session)
    await t.rejects(outer.transaction().execute(async () => {
      await add(outer, 'outer')
      await outer.transaction().execute(() => add(kyselyOf<Shop>(session), 'inner'))
      throw new Error('undone')
    }), { message: 'undone' })
  })
  t.same(await people(), ['Ada', 'Grace'])
})

t.test('concurrent transactions wait for each other, and statements outside wait for them', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    const results = await Promise.allSettled([
      kysely.transaction().execute(async (trx) => {
        await add(trx, 'dropped')
        await turn()
        throw new Error('undone')
      }),
      kysely.transaction().execute(async (trx) => {
        await turn()
        await add(trx, 'second')
      }),
      add(kysely, 'outside')
    ])
    t.same(results.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled'])
  })
  t.same(await people(), ['Ada', 'Grace', 'second', 'outside'])
})

t.test('a controlled transaction is a savepoint of the session, with savepoints of its own', async (t) => {
  const { app, database, db, people, proxy } = await startShop(t, postgres)
  const controlled = async (kysely: Kysely<Shop>): Promise<void> => {
    const kept = await kysely.startTransaction().execute()
    await Promise.all([add(kept, 'kept'), names(kept)])
    const inside = await kept.savepoint('one').execute()
    await add(inside, 'dropped')
    await t.rejects(add(inside, 'Ada'), { code: '23505' })
    const back = await inside.rollbackToSavepoint('one').execute()
    await add(back, 'after')
    const two = await back.savepoint('two').execute()
    await add(two, 'last')
    await (await two.releaseSavepoint('two').execute()).commit().execute()
    t.ok(kept.isCommitted)
    const undone = await kysely.startTransaction().execute()
    await add(undone, 'undone')
    await add(await undone.savepoint('three').execute(), 'undone too')
    await undone.rollback().execute()
    t.ok(undone.isRolledBack)
  }
  app.get('/', async ({ db }) => { await controlled(kyselyOf<Shop>(db)) })
  t.equal((await app.inject('/')).statusCode, 200)
  const written = ['Ada', 'Grace', 'kept', 'after', 'last']
  t.same(await people(), written)
  t.equal(proxy.executed.filter((text) => text === 'COMMIT').length, 1)

  for (const run of [
    () => controlled(kyselyOf<Shop>(db)),
    () => db.scope((session) => controlled(kyselyOf<Shop>(session)), { mode: 'autocommit' })
  ]) {
    await postgres.query('DELETE FROM person WHERE id > 2', undefined, database)
    await run()
    t.same(await people(), written)
  }
  t.equal(db.stats().inUse, 0)
})

t.test('a controlled transaction that has failed is not committed', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const fail = async (kysely: Kysely<Shop>): Promise<void> => {
    const trx = await kysely.startTransaction().setIsolationLevel('serializable').execute()
    t.same((await sql<any>`SELECT current_setting('transaction_isolation') AS level`.execute(trx)).rows, [{ level: 'serializable' }])
    await add(trx, 'dropped')
    await t.rejects(add(trx, 'Ada'), { code: '23505' })
    await t.rejects(trx.commit().execute(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await trx.rollback().execute()
    await add(kysely, 'kept')
  }
  await db.scope((session) => fail(kyselyOf<Shop>(session)))
  await db.scope(async (session) => {
    await session.query('DELETE FROM person WHERE id > 2')
  })
  await db.scope((session) => fail(kyselyOf<Shop>(session)), { mode: 'autocommit' })
  await db.query('DELETE FROM person WHERE id > 2')
  await fail(kyselyOf<Shop>(db))
  t.same(await people(), ['Ada', 'Grace', 'kept'])
  t.equal(db.stats().inUse, 0)
})

t.test('errors are those of pg, then those of the session', async (t) => {
  const { app } = await startShop(t, postgres)
  app.get('/taken', async ({ db }) => {
    const kysely = kyselyOf<Shop>(db)
    const error = await add(kysely, 'Ada').catch((error) => error)
    t.ok(error instanceof pg.DatabaseError)
    t.match(error, { code: '23505', constraint: 'person_name_taken', statement: /^insert into "person"/ })
    await t.rejects(names(kysely), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: error })
    return {}
  })
  const { statusCode, json } = await app.inject('/taken')
  t.equal(statusCode, 500, 'the handler swallowed it')
  t.match(json(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.throws(() => kyselyOf(null as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /kyselyOf\(\).*, got null/ })
})

t.test('rows are streamed, with all of what was written before', async (t) => {
  const { db } = await startShop(t, postgres)
  const many = async (kysely: Kysely<Shop>): Promise<number> => {
    let count = 0
    const query = kysely.selectFrom('person').select(sql<number>`generate_series(1, 1000)`.as('n')).where('id', '=', 1)
    for await (const { n } of query.stream(300)) if (n === ++count && count === 1000) return count
    return -1
  }
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    t.equal(await many(kysely), 1000)
    t.equal(await kysely.transaction().execute(many), 1000)
    const left = kysely.selectFrom('person').select('id').stream(1)
    t.same(await left.next(), { value: { id: 1 }, done: false })
    await left.return!()
    t.same(await names(kysely), ['Ada', 'Grace'], 'a stream that was left early blocks nothing')
    await t.rejects((async () => {
      for await (const row of kysely.selectFrom('nothing' as never).selectAll().stream()) t.fail(`${row}`)
    })(), { code: '42P01' })
  }).catch((error) => t.match(error, { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }))
  t.equal(await many(kyselyOf<Shop>(db)), 1000, 'on the engine')
  t.equal(db.stats().inUse, 0)
})

t.test('plugins and schemas keep the transactions in the session', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const kysely = kyselyOf<any>(session, { plugins: [new CamelCasePlugin()] })
    const other = kyselyOf<any>(session).withPlugin(new CamelCasePlugin())
    for (const instance of [kysely, other, kysely.withSchema('public'), kysely.withTables()]) {
      await t.rejects(instance.transaction().execute(async (trx) => {
        await kysely.insertInto('person').values({ fullName: 'dropped' }).execute()
        t.match(await trx.selectFrom('person').select('fullName').orderBy('id').execute(), [{ fullName: 'Ada' }, { fullName: 'Grace' }, { fullName: 'dropped' }])
        throw new Error('undone')
      }), { message: 'undone' })
    }
    t.same(await kysely.withoutPlugins().selectFrom('person').select('full_name').where('id', '=', 1).execute(), [{ full_name: 'Ada' }])
  })
  t.same(await people(), ['Ada', 'Grace'])
})

t.test('an isolation level holds if the transaction has not begun, and is an error afterwards', async (t) => {
  const { app, db } = await startShop(t, postgres)
  const ask = sql<{ level: string, only: string }>`SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS only`
  const nested = (kysely: Kysely<Shop>) => kysely.transaction().setIsolationLevel('serializable').setAccessMode('read only').execute(async (trx) => (await ask.execute(trx)).rows[0])
  const wanted = { level: 'serializable', only: 'on' }
  app.get('/first', ({ db }) => nested(kyselyOf<Shop>(db)))
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, ({ db }) => nested(kyselyOf<Shop>(db)))
  for (const path of ['/first', '/autocommit']) t.same((await app.inject(path)).json(), wanted, path)
  t.same(await nested(kyselyOf<Shop>(db)), wanted, 'on the engine')
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session)
    await names(kysely)
    await t.rejects(nested(kysely), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /cannot be ISOLATION LEVEL SERIALIZABLE, READ ONLY/ })
    await t.rejects(kysely.transaction().setIsolationLevel('snapshot').execute(names), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
    t.same(await names(kysely), ['Ada', 'Grace'], 'the session goes on')
  })
})

t.test('on the engine each statement is committed by itself, and a transaction as a whole', async (t) => {
  const { db, people, proxy } = await startShop(t, postgres)
  const kysely = kyselyOf<Shop>(db)
  await add(kysely, 'alone')
  t.equal(proxy.roundTrips, 1)
  t.same(await people(), ['Ada', 'Grace', 'alone'])
  await t.rejects(kysely.transaction().execute(async (trx) => {
    await add(trx, 'dropped')
    throw new Error('undone')
  }), { message: 'undone' })
  await kysely.transaction().execute((trx) => add(trx, 'kept'))
  t.same(await people(), ['Ada', 'Grace', 'alone', 'kept'])
  t.equal(db.stats().inUse, 0)
})

t.test('a function follows the session of the running code', async (t) => {
  const { db, people } = await startShop(t, postgres)
  let current: Parameters<typeof kyselyOf>[0] = db
  const kysely = kyselyOf<Shop>(() => current as typeof db)
  await t.rejects(db.scope(async (session) => {
    current = session
    await add(kysely, 'dropped')
    await kysely.transaction().execute((trx) => add(trx, 'dropped too'))
    throw new Error('undone')
  }), { message: 'undone' })
  current = db
  await add(kysely, 'kept')
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

onlyDirect(t, 'the lock of migrations belongs to a connection').test('migrations run on the engine, and introspection shows their tables', async (t) => {
  const { db } = await startShop(t, postgres)
  const kysely = kyselyOf<any>(db)
  const provider = {
    getMigrations: async () => ({
      '001-create': {
        up: async (db: Kysely<any>) => { await db.schema.createTable('toy').addColumn('id', 'integer', (column) => column.primaryKey()).execute() },
        down: async (db: Kysely<any>) => { await db.schema.dropTable('toy').execute() }
      },
      '002-fill': { up: async (db: Kysely<any>) => { await db.insertInto('toy').values([{ id: 1 }, { id: 2 }]).execute() } }
    })
  }
  const migrator = new Migrator({ db: kysely, provider })
  t.match(await migrator.migrateToLatest(), { error: undefined, results: [{ status: 'Success' }, { status: 'Success' }] })
  t.same(await kysely.selectFrom('toy').selectAll().execute(), [{ id: 1 }, { id: 2 }])
  const tables = await kysely.introspection.getTables()
  t.same(tables.map(({ name }) => name).sort(), ['person', 'pet', 'toy'])
  const failing = new Migrator({ db: kysely, provider: { getMigrations: async () => ({ ...await provider.getMigrations(), '003-fail': { up: async (db: Kysely<any>) => { await sql`INSERT INTO toy VALUES (3), (1)`.execute(db) } } }) } })
  t.match(await failing.migrateToLatest(), { error: { code: '23505' } })
  t.equal((await kysely.selectFrom('toy').selectAll().execute()).length, 2, 'a failed migration is rolled back')
  t.equal(db.stats().inUse, 0)
})

onlyDirect(t, 'a connection of its own').test('connection() on the engine stays on one connection', async (t) => {
  const { db } = await startShop(t, postgres)
  await kyselyOf<Shop>(db, { plugins: [new CamelCasePlugin()] }).connection().execute(async (kysely) => {
    const pid = async (db: Kysely<any>) => (await sql<{ backendPid: number }>`SELECT pg_backend_pid() AS backend_pid`.execute(db)).rows[0]!.backendPid
    const first = await pid(kysely)
    t.type(first, 'number')
    t.equal(await pid(kysely), first)
    t.equal(await kysely.transaction().execute(pid), first)
  })
  await db.scope((session) => kyselyOf<Shop>(session).connection().execute(async (kysely) => t.same(await names(kysely), ['Ada', 'Grace'])))
})

onlyDirect(t, 'what is prepared is seen in its session').test('a query that is used often is prepared automatically', async (t) => {
  const { db, proxy } = await startShop(t, postgres, { pool: { max: 1 } })
  await db.scope(async (session) => {
    for (let i = 0; i < 20; i++) await kyselyOf<Shop>(session).selectFrom('person').select(['id', 'balance']).where('id', '=', 1).execute()
  })
  t.ok(proxy.statements.filter((text) => text.startsWith('select "id", "balance"')).length <= 6)
})

t.test('statements and errors are logged as Kysely is told to', async (t) => {
  const { db } = await startShop(t, postgres)
  const events: string[] = []
  const log = (event: any): void => { events.push(`${event.level} ${event.isStream === true} ${event.query.sql.split(' ')[0]} ${typeof event.queryDurationMillis}`) }
  await db.scope(async (session) => {
    const kysely = kyselyOf<Shop>(session, { log })
    await names(kysely)
    await kysely.transaction().execute((trx) => add(trx, 'Ada')).catch(() => {})
    for await (const row of kysely.selectFrom('person').selectAll().stream()) t.ok(row)
  })
  t.same(events, ['query false select number', 'error false insert number', 'query true select number'])
})
