// Knex, and Objection on it.
import knex, { type Knex } from 'knex'
import { Model } from 'objection'
import t, { type Test } from 'tap'
import { driverOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

const insert = (db: Knex, name: string) => db('person').insert({ full_name: name })

async function startKnex (t: Test) {
  const shop = await startShop(t, postgres)
  const db = knex({ client: 'pg', connectionPool: poolOf(shop.app.db) })
  return { ...shop, knex: db }
}

t.test('a request commits what Knex wrote, nested transactions too, and a throw rolls it back', async (t) => {
  const { knex, ...shop } = await startKnex(t)
  await commitAndRollBack(t, shop, async (name) => {
    await insert(knex, name)
    await t.rejects(knex.transaction(async (trx) => {
      await insert(trx, 'dropped')
      await insert(knex, 'dropped by a repository')
      throw new Error('mine')
    }), { message: 'mine' })
    await knex.transaction(async (trx) => {
      await t.rejects(trx.transaction((inner) => insert(inner, 'Ada')), { code: '23505', constraint: 'person_name_taken' })
      t.equal(await trx('person').where({ full_name: name }).update({ balance: 5 }), 1)
    })
    t.same(await knex('person').where({ full_name: name }).select('balance').first(), { balance: 5 })
  })
})

t.test('transactions under Promise.all run one after the other, and queries are streamed', async (t) => {
  const { knex, db, people } = await startKnex(t)
  await db.scope(async () => {
    const results = await Promise.allSettled(['a', 'Ada', 'b'].map((name) => knex.transaction(async (trx) => {
      await insert(trx, `${name} 1`)
      await insert(trx, name)
    })))
    t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
    const names: string[] = []
    for await (const row of knex('person').orderBy('id').stream()) names.push(row.full_name)
    t.same(names, ['Ada', 'Grace', 'a 1', 'a', 'b 1', 'b'])
    const trx = await knex.transaction()
    await insert(trx, 'dropped')
    await trx.rollback()
  })
  t.same(await people(), ['Ada', 'Grace', 'a 1', 'a', 'b 1', 'b'])
})

t.test('outside of requests a transaction is one of its own, also with an isolation level', async (t) => {
  const { knex, people } = await startKnex(t)
  await t.rejects(knex.transaction(async (trx) => {
    await insert(trx, 'dropped')
    await insert(trx, 'Ada')
  }), { code: '23505' })
  await knex.transaction(async (trx) => {
    t.match((await trx.raw('SHOW transaction_isolation')).rows, [{ transaction_isolation: 'serializable' }])
    await insert(trx, 'kept')
  }, { isolationLevel: 'serializable' })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
  await knex.destroy()
})

t.test('a Knex with a pool of its own, as before version 3.3, works on the driver', async (t) => {
  const shop = await startShop(t, postgres)
  const { default: PgClient } = await import('knex/lib/dialects/postgres/index.js' as string)
  class ScopeClient extends PgClient {
    _driver (): unknown { return driverOf(shop.app.db) }
  }
  const db = knex({ client: ScopeClient as never, connection: {} })
  await insert(db, 'at startup')
  shop.app.post('/', async () => {
    await db.transaction((trx) => insert(trx, 'dropped'))
    throw new Error('not this one')
  })
  await shop.app.inject({ method: 'POST', url: '/' })
  t.same(await shop.people(), ['Ada', 'Grace', 'at startup'])
  await db.destroy()
})

t.test('Objection works on it: models, relations, transactions', async (t) => {
  const { knex, ...shop } = await startKnex(t)
  class Pet extends Model {
    static override tableName = 'pet'
    declare name: string
  }
  class Person extends Model {
    static override tableName = 'person'
    declare id: number
    declare full_name: string
    declare pets: Pet[]
    static override relationMappings = {
      pets: { relation: Model.HasManyRelation, modelClass: Pet, join: { from: 'person.id', to: 'pet.owner_id' } }
    }
  }
  Person.knex(knex)
  Pet.knex(knex)
  await commitAndRollBack(t, shop, async (name) => {
    await Person.transaction(async (trx) => {
      const person = await Person.query(trx).insertGraph({ full_name: name, pets: [{ name: 'Leo' }] } as never)
      t.match(await Person.query(trx).findById(person.id).withGraphFetched('pets'), { full_name: name, pets: [{ name: 'Leo' }] })
    })
    const error = await Person.transaction(async (trx) => Person.query(trx).insert({ full_name: 'Ada' } as never)).catch((error) => error)
    t.match(error.nativeError, { code: '23505', constraint: 'person_name_taken' })
  })
})
