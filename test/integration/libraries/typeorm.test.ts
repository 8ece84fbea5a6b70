import t from 'tap'
import { DataSource, EntitySchema, QueryFailedError } from 'typeorm'
import { driverOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

interface PersonRow { id: number, full_name: string, balance: number, pets?: PetRow[] }
interface PetRow { id: number, name: string, owner?: PersonRow }

const Person = new EntitySchema<PersonRow>({
  name: 'person',
  columns: {
    id: { type: Number, primary: true, generated: 'increment' }, full_name: { type: 'text' }, balance: { type: Number, default: 0 }
  },
  relations: { pets: { type: 'one-to-many', target: 'pet', inverseSide: 'owner', cascade: true } }
})
const Pet = new EntitySchema<PetRow>({
  name: 'pet',
  columns: { id: { type: Number, primary: true, generated: 'increment' }, name: { type: 'text' } },
  relations: { owner: { type: 'many-to-one', target: 'person', joinColumn: { name: 'owner_id' }, inverseSide: 'pets' } }
})

const postgres = await startTestPostgres(t)

t.test('a request commits what TypeORM wrote, nested transactions too, and a throw rolls it back', async (t) => {
  const shop = await startShop(t, postgres)
  const source = new DataSource({ type: 'postgres', driver: driverOf(shop.app.db), entities: [Person, Pet] })
  await source.initialize()
  await commitAndRollBack(t, shop, async (name) => {
    const people = source.getRepository(Person)
    const { id } = await people.save({ full_name: name, pets: [{ name: 'Leo' }] } as PersonRow)
    await t.rejects(source.transaction(async (manager) => {
      await manager.save(Person, { full_name: 'dropped' })
      await people.save({ full_name: 'dropped by a repository' })
      await manager.transaction((manager) => manager.save(Person, { full_name: 'dropped too' }))
      throw new Error('mine')
    }), { message: 'mine' })
    await source.transaction(async (manager) => {
      const error = await manager.transaction((manager) => manager.insert(Person, { full_name: 'Ada' })).catch((error) => error)
      t.ok(error instanceof QueryFailedError)
      t.match(error.driverError, { code: '23505', constraint: 'person_name_taken' })
      await manager.update(Person, id, { balance: 7 })
    })
    t.match(await people.findOne({ where: { id }, relations: { pets: true } }), { full_name: name, balance: 7, pets: [{ name: 'Leo' }] })
    const names: unknown[] = []
    const runner = source.createQueryRunner()
    for await (const row of await runner.stream('SELECT name FROM pet WHERE owner_id = $1', [id])) names.push(row)
    await runner.release()
    t.same(names, [{ name: 'Leo' }])
  })
  await source.destroy()
})

t.test('isolation levels hold where nothing has run yet, and outside of requests; transactions under Promise.all work', async (t) => {
  const { app, db, people } = await startShop(t, postgres)
  const source = await new DataSource({ type: 'postgres', driver: driverOf(app.db), entities: [Person, Pet] }).initialize()
  const level = () => source.transaction('SERIALIZABLE', (manager) => manager.query('SHOW transaction_isolation'))
  t.same(await level(), [{ transaction_isolation: 'serializable' }])
  await db.scope(async (session) => {
    t.same(await level(), [{ transaction_isolation: 'serializable' }])
    await session.rollback()
    await session.query('SELECT 1')
    t.match((await level().catch((error) => error)).driverError, { code: 'FST_PG_SCOPE_SESSION_STATE' })
    await Promise.all(['a', 'b', 'c'].map((name) => source.transaction(async (manager) => {
      await manager.insert(Person, { full_name: name })
      await manager.insert(Person, { full_name: `${name} too` })
    })))
  })
  t.same(await people(), ['Ada', 'Grace', 'a', 'a too', 'b', 'b too', 'c', 'c too'])
  await source.destroy()
})
