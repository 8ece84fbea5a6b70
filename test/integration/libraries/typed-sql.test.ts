// Libraries that write statements and leave the client to their caller.
import SQL from '@nearform/sql'
import { sql as typed } from '@pgtyped/runtime'
import template from 'sql-template-tag'
import t from 'tap'
import * as zapatos from 'zapatos/db'
import { clientOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

t.test('a request commits what pgtyped wrote, and a throw rolls it back', async (t) => {
  const shop = await startShop(t, postgres)
  const insert = typed<{ params: { name: string }, result: { id: number } }>`INSERT INTO person (full_name) VALUES ($name!) RETURNING id`
  await commitAndRollBack(t, shop, async (name, request) => {
    t.type((await insert.run({ name }, clientOf(request.db) as never))[0]?.id, 'number')
  })
  await t.rejects(insert.run({ name: 'Ada' }, poolOf(shop.app.db) as never), { code: '23505' })
})

t.test('a request commits what zapatos wrote, nested transactions too, and a throw rolls it back', async (t) => {
  const shop = await startShop(t, postgres)
  const pool = poolOf(shop.app.db)
  const insert = (name: string): any => zapatos.insert('person' as never, { full_name: name } as never)
  await commitAndRollBack(t, shop, async (name, request) => {
    await t.rejects(zapatos.serializable(pool, async (client) => {
      t.same((await client.query('SHOW transaction_isolation')).rows, [{ transaction_isolation: 'serializable' }])
      await insert('dropped').run(client)
      throw new Error('mine')
    }), { message: 'mine' })
    await insert(name).run(clientOf(request.db))
    t.match(await zapatos.select('person' as never, { full_name: name } as never).run(pool), [{ full_name: name }])
    await zapatos.serializable(pool, async () => {})
    await t.rejects(zapatos.repeatableRead(pool, async () => {}), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  })
})

t.test('a request commits what sql-template-tag and @nearform/sql wrote, and a throw rolls it back', async (t) => {
  const shop = await startShop(t, postgres)
  const pool = poolOf(shop.app.db)
  await commitAndRollBack(t, shop, async (name) => {
    await pool.query(template`INSERT INTO person (full_name) VALUES (${name})`)
    const client = await pool.connect()
    await client.query('BEGIN')
    await client.query(SQL`UPDATE person SET balance = ${5} WHERE full_name = ${name}`)
    await client.query('COMMIT')
    client.release()
    t.match((await pool.query(SQL`SELECT balance FROM person WHERE full_name = ${name}`)).rows, [{ balance: 5 }])
  })
})
