import { DataTypes, Model, Sequelize, UniqueConstraintError } from 'sequelize'
import t, { type Test } from 'tap'
import { driverOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

/** Nothing is set on the connection: settings belong to the plugin. The type of the options lacks one of them. */
const settings: object = { keepDefaultTimezone: true, dialectOptions: { clientMinMessages: 'ignore' } }

async function startSequelize (t: Test) {
  const shop = await startShop(t, postgres)
  const sequelize = new Sequelize({
    dialect: 'postgres',
    dialectModule: driverOf(shop.app.db),
    logging: false,
    ...settings,
    // Each of them is a small object, and transactions take one each.
    pool: { max: 1000 }
  })
  t.teardown(() => sequelize.close())
  await sequelize.authenticate()
  class Person extends Model { declare id: number }
  Person.init({ full_name: DataTypes.TEXT, balance: DataTypes.INTEGER }, { sequelize, tableName: 'person', timestamps: false })
  class Pet extends Model {}
  Pet.init({ name: DataTypes.TEXT }, { sequelize, tableName: 'pet', timestamps: false })
  Person.hasMany(Pet, { as: 'pets', foreignKey: 'owner_id' })
  return { ...shop, sequelize, Person, Pet }
}

t.test('a request commits what Sequelize wrote, nested transactions too, and a throw rolls it back', async (t) => {
  const { sequelize, Person, Pet, ...shop } = await startSequelize(t)
  await commitAndRollBack(t, shop, async (name) => {
    const { id } = await Person.create({ full_name: name, balance: 0, pets: [{ name: 'Leo' }] }, { include: [{ model: Pet, as: 'pets' }] })
    await t.rejects(sequelize.transaction(async (transaction) => {
      await Person.create({ full_name: 'dropped', balance: 0 }, { transaction })
      await Person.create({ full_name: 'dropped by a repository', balance: 0 })
      throw new Error('mine')
    }), { message: 'mine' })
    await sequelize.transaction(async (transaction) => {
      const error = await sequelize.transaction({ transaction }, async (transaction) => {
        await Person.create({ full_name: 'dropped too', balance: 0 }, { transaction })
        await Person.create({ full_name: 'Ada', balance: 0 }, { transaction })
      }).catch((error) => error)
      t.ok(error instanceof UniqueConstraintError)
      t.match(error.parent, { code: '23505', constraint: 'person_name_taken' })
      await Person.update({ balance: 7 }, { where: { id }, transaction })
    })
    const found = await Person.findByPk(id, { include: [{ model: Pet, as: 'pets' }] })
    t.match(found?.toJSON(), { full_name: name, balance: 7, pets: [{ name: 'Leo' }] })
  })
})

t.test('transactions under Promise.all run one after the other, and an isolation level holds where nothing has run', async (t) => {
  const { sequelize, Person, db, people } = await startSequelize(t)
  const isolationLevel = 'SERIALIZABLE' as never
  const level = () => sequelize.transaction({ isolationLevel }, async (transaction) => (await sequelize.query('SHOW transaction_isolation', { transaction, plain: true })))
  t.same(await level(), { transaction_isolation: 'serializable' })
  await db.scope(async () => {
    t.same(await level(), { transaction_isolation: 'serializable' })
    await Promise.all(['a', 'b', 'c'].map((name) => sequelize.transaction(async (transaction) => {
      await Person.create({ full_name: name, balance: 0 }, { transaction })
      await Person.create({ full_name: `${name} too`, balance: 0 }, { transaction })
    })))
  })
  t.same((await people()).sort(), ['Ada', 'Grace', 'a', 'a too', 'b', 'b too', 'c', 'c too'].sort())
})
