import { defineEntity, MikroORM, p, UniqueConstraintViolationException } from '@mikro-orm/postgresql'
import { PostgresDialect } from 'kysely'
import pg from 'pg'
import Cursor from 'pg-cursor'
import t from 'tap'
import { poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const Person = defineEntity({
  name: 'Person',
  tableName: 'person',
  properties: { id: p.integer().primary(), full_name: p.string(), balance: p.integer().default(0), pets: () => p.oneToMany(Pet).mappedBy('owner') }
})
const Pet: any = defineEntity({
  name: 'Pet',
  tableName: 'pet',
  properties: { id: p.integer().primary(), name: p.string(), owner: () => p.manyToOne(Person).joinColumn('owner_id') }
})

const postgres = await startTestPostgres(t)

t.test('a request commits what MikroORM wrote, nested transactions too, and a throw rolls it back', async (t) => {
  const shop = await startShop(t, postgres)
  const types = new pg.TypeOverrides()
  for (const oid of [1082, 1114, 1184, 1186]) types.setTypeParser(oid, (value) => value)
  const dialect = new PostgresDialect({ pool: poolOf(shop.app.db, { types }), cursor: Cursor })
  const orm = new MikroORM({ entities: [Person, Pet], dbName: 'any', ensureDatabase: false, driverOptions: dialect })
  await orm.connect()
  await commitAndRollBack(t, shop, async (name) => {
    const em = orm.em.fork()
    const person: any = em.create(Person, { full_name: name, balance: 0 } as never)
    em.create(Pet, { name: 'Leo', owner: person } as never)
    await em.flush()
    await t.rejects(em.fork().transactional(async (em) => {
      em.create(Person, { full_name: 'dropped' } as never)
      await em.flush()
      await orm.em.fork().insert(Person, { full_name: 'dropped by a repository' } as never)
      throw new Error('mine')
    }), { message: 'mine' })
    await em.transactional(async (em) => {
      const error = await em.transactional((em) => em.insert(Person, { full_name: 'Ada' } as never)).catch((error: any) => error)
      t.ok(error instanceof UniqueConstraintViolationException)
      t.match({ ...error }, { code: '23505', constraint: 'person_name_taken' })
      await em.nativeUpdate(Person, { id: person.id }, { balance: 7 } as never)
    })
    const found: any = await orm.em.fork().findOneOrFail(Person, { id: person.id } as never, { populate: ['pets'] } as never)
    const { full_name: fullName, balance, pets } = found
    t.same([fullName, balance, pets.getItems().map(({ name }: any) => name)], [name, 7, ['Leo']])
  })
  await orm.close()
})
