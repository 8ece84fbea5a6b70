// What a user of Drizzle can rely on, for each version that is supported.
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import * as orm from 'drizzle-orm'
import { eq, sql } from 'drizzle-orm'
import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import { drizzleOf } from '../../../lib/drizzle/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import type { Engine, Session } from '../../../lib/index.ts'
import { startShop } from './shop.ts'

const person = pgTable('person', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  fullName: text('full_name').notNull(),
  balance: integer().notNull().default(0)
})
const pet = pgTable('pet', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  ownerId: integer('owner_id').notNull(),
  name: text().notNull()
})

const postgres = await startTestPostgres(t)

/** How relations are declared depends on the version. */
function configWithRelations (): any {
  if ('defineRelations' in orm) {
    return { relations: (orm as any).defineRelations({ person, pet }, (r: any) => ({ person: { pets: r.many.pet({ from: r.person.id, to: r.pet.ownerId }) } })) }
  }
  const { relations } = orm as any
  return {
    schema: {
      person,
      pet,
      personRelations: relations(person, ({ many }: any) => ({ pets: many(pet) })),
      petRelations: relations(pet, ({ one }: any) => ({ owner: one(person, { fields: [pet.ownerId], references: [person.id] }) }))
    }
  }
}

const on = (source: Session | Engine | (() => Session | Engine)) => drizzleOf(source)
type Db = Pick<ReturnType<typeof on>, 'insert' | 'select'>

const add = async (db: Db, fullName: string) => {
  const [row] = await db.insert(person).values({ fullName }).returning()
  return row!
}
const read = (db: Db, id: number) => db.select().from(person).where(eq(person.id, id))
const names = async (db: Db): Promise<string[]> => (await db.select().from(person).orderBy(person.id)).map((row) => row.fullName)

t.test('a request commits what Drizzle wrote, and a throw rolls it back', async (t) => {
  const { app, people } = await startShop(t, postgres)
  app.post('/people/:name', async (request, reply) => {
    const { name } = request.params as { name: string }
    const row = await add(on(request.db), name)
    if (name === 'Nobody') throw new Error('not this one')
    return reply.code(201).send(row)
  })
  const created = await app.inject({ method: 'POST', url: '/people/Alan' })
  t.equal(created.statusCode, 201)
  t.same(created.json(), { id: 3, fullName: 'Alan', balance: 0 })
  t.equal((await app.inject({ method: 'POST', url: '/people/Nobody' })).statusCode, 500)
  t.same(await people(), ['Ada', 'Grace', 'Alan'])
})

t.test('joins, relational queries, counts and raw SQL work', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const drizzle = drizzleOf(session, configWithRelations()) as any
    t.same(await drizzle.select({ owner: person.fullName, pet: pet.name }).from(pet).innerJoin(person, eq(person.id, pet.ownerId)).orderBy(pet.id), [
      { owner: 'Ada', pet: 'Rex' }, { owner: 'Ada', pet: 'Tom' }, { owner: 'Grace', pet: 'Kit' }
    ])
    const found = (database: any) => database.query.person.findMany({ with: { pets: true } })
    const withPets = [
      { id: 1, fullName: 'Ada', balance: 10, pets: [{ id: 1, ownerId: 1, name: 'Rex' }, { id: 2, ownerId: 1, name: 'Tom' }] },
      { id: 2, fullName: 'Grace', balance: 20, pets: [{ id: 3, ownerId: 2, name: 'Kit' }] }
    ]
    t.same(await found(drizzle), withPets)
    t.same(await drizzle.transaction((tx: any) => tx.transaction(found)), withPets, 'in nested transactions')
    t.equal(await drizzle.$count(person), 2)
    t.equal((await drizzle.update(person).set({ balance: 5 })).rowCount, 2)
    t.same((await drizzle.execute(sql`SELECT ${1}::int AS one`)).rows, [{ one: 1 }])
  })
})

t.test('a prepared query runs with its placeholders', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const query = on(session).select().from(person).where(eq(person.id, sql.placeholder('id'))).prepare('person_by_id')
    for (const [id, fullName] of [[1, 'Ada'], [2, 'Grace'], [1, 'Ada']] as const) t.match(await query.execute({ id }), [{ id, fullName }])
  })
})

t.test('five reads under Promise.all share one round trip, in a transaction of Drizzle as well', async (t) => {
  const { db, proxy } = await startShop(t, postgres, { preparedStatements: 0 })
  const five = (drizzle: Db) => Promise.all([1, 2, 1, 2, 1].map((id) => read(drizzle, id)))
  await db.scope((session) => five(on(session)))
  t.match(proxy, { roundTrips: 2, syncs: 2 }, 'and COMMIT')
  proxy.reset()
  await db.scope((session) => on(session).transaction(five))
  t.match(proxy, { roundTrips: 2, syncs: 2 })
  proxy.reset()
  await on(db).transaction(five)
  t.match(proxy, { roundTrips: 2, syncs: 2 }, 'on the engine')
})

t.test('a transaction that throws is rolled back alone, and its error is intact', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const mine = new Error('mine')
  await db.scope(async (session) => {
    const drizzle = on(session)
    await add(drizzle, 'kept')
    t.equal(await drizzle.transaction(async (tx) => {
      await add(tx, 'dropped')
      throw mine
    }).catch((error) => error), mine)
    const taken = await drizzle.transaction((tx) => add(tx, 'Ada')).catch((error) => error)
    t.ok(taken.cause instanceof pg.DatabaseError)
    t.match(taken.cause, { code: '23505', constraint: 'person_name_taken' })
    await drizzle.transaction(async (tx) => {
      await add(tx, 'outer')
      await t.rejects(tx.transaction(async (inner) => {
        await add(inner, 'inner')
        inner.rollback()
      }))
    })
  })
  t.same(await people(), ['Ada', 'Grace', 'kept', 'outer'])
})

t.test('what uses the outer database inside of a transaction belongs to it, and transactions wait for each other', async (t) => {
  const { db, people } = await startShop(t, postgres)
  await db.scope(async (session) => {
    const drizzle = on(session)
    const results = await Promise.allSettled([
      drizzle.transaction(async () => {
        await add(drizzle, 'dropped')
        await turn()
        throw new Error('undone')
      }),
      drizzle.transaction(async (tx) => {
        await turn()
        await add(tx, 'second')
      }),
      add(drizzle, 'outside')
    ])
    t.same(results.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled'])
  })
  t.same(await people(), ['Ada', 'Grace', 'second', 'outside'])
})

t.test('no value is in the answer or in the log of a query that failed, and its error keeps them', async (t) => {
  const lines: string[] = []
  const { app } = await startShop(t, postgres, {}, { write: (line: string) => { lines.push(line) } })
  app.get('/', async ({ db }) => {
    const error = await on(db).insert(person).values({ fullName: 'secret value', balance: 'no number' as never }).catch((error) => error)
    t.match(error, { cause: { code: '22P02' } })
    // Drizzle 1.0 leaves them out.
    if (error.params !== undefined) t.same(error.params, ['secret value', 'no number'])
    throw error
  })
  const response = await app.inject('/')
  t.equal(response.statusCode, 500)
  t.match(response.json().message, /^Failed query: insert into/)
  t.match(lines.join(), /Failed query: insert into/)
  t.notMatch(`${response.body} ${lines.join()}`, /secret value/)
})

t.test('errors of the plugin are not wrapped, so their status is kept', async (t) => {
  const { app } = await startShop(t, postgres)
  app.get('/', async ({ db }) => {
    const drizzle = on(db)
    await t.rejects(add(drizzle, 'Ada'), { cause: { code: '23505' } })
    await t.rejects(names(drizzle), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    return {}
  })
  t.match((await app.inject('/')).json(), { statusCode: 500, code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.throws(() => drizzleOf({} as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /drizzleOf\(\)/ })
})

t.test('an isolation level holds if the transaction has not begun, and is an error afterwards', async (t) => {
  const { app, db } = await startShop(t, postgres)
  const nested = (source: Session | Engine) => on(source).transaction(async (tx) => (await tx.execute(
    sql`SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS only`
  )).rows[0], { isolationLevel: 'repeatable read', accessMode: 'read only' })
  const wanted = { level: 'repeatable read', only: 'on' }
  app.get('/first', ({ db }) => nested(db))
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, ({ db }) => nested(db))
  for (const path of ['/first', '/autocommit']) t.same((await app.inject(path)).json(), wanted, path)
  t.same(await nested(db), wanted, 'on the engine')
  await db.scope(async (session) => {
    await names(on(session))
    await t.rejects(nested(session), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  })
})

t.test('on the engine each statement is committed by itself; a function follows the running session', async (t) => {
  const { db, people } = await startShop(t, postgres)
  let current: Session | Engine = db
  const drizzle = on(() => current)
  await add(drizzle, 'alone')
  t.same(await people(), ['Ada', 'Grace', 'alone'])
  await t.rejects(drizzle.transaction(async (tx) => {
    await add(tx, 'dropped')
    throw new Error('undone')
  }), { message: 'undone' })
  await t.rejects(db.scope(async (session) => {
    current = session
    await add(drizzle, 'dropped too')
    throw new Error('undone')
  }), { message: 'undone' })
  t.same(await people(), ['Ada', 'Grace', 'alone'])
  t.equal(db.stats().inUse, 0)
})

onlyDirect(t, 'what is prepared is seen in its session').test('a query that is used often is prepared automatically', async (t) => {
  const { db, proxy } = await startShop(t, postgres, { pool: { max: 1 } })
  await db.scope(async (session) => {
    for (let i = 0; i < 20; i++) await on(session).select({ id: person.id, balance: person.balance }).from(person)
  })
  t.ok(proxy.statements.filter((text) => text.startsWith('select "id", "balance"')).length <= 6)
})
