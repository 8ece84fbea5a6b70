import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t, { settings: { max_prepared_transactions: 10 } })
await postgres.query('CREATE TABLE orders (id int PRIMARY KEY)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString })
app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => (await request.db.query('COMMIT PREPARED \'of a request\'')).command)
t.teardown(() => app.close())
const { db } = app

let count = 0
/** A transaction that is prepared and left to whoever ends it, as a transaction manager leaves it. */
async function prepare (name: string): Promise<number> {
  const id = ++count
  await postgres.query(`BEGIN; INSERT INTO orders VALUES (${id}); PREPARE TRANSACTION '${name}'`)
  return id
}
const saved = async (id: number): Promise<boolean> => (await postgres.query('SELECT FROM orders WHERE id = $1', [id])).rowCount === 1
const open = async (): Promise<number> => (await postgres.query('SELECT FROM pg_prepared_xacts')).rowCount!

for (const text of ['COMMIT PREPARED \'a\'', ' -- two phases\n commit /* now */ prepared \'a\';']) {
  t.test(`app.db.query() sends ${JSON.stringify(text)}`, async (t) => {
    const id = await prepare('a')
    t.match(await db.query(text), { command: 'COMMIT' })
    t.equal(await saved(id), true)
    t.equal(await open(), 0)
  })
}

t.test('app.db.query() sends ROLLBACK PREPARED', async (t) => {
  const id = await prepare('b')
  await db.query('ROLLBACK PREPARED \'b\'')
  t.equal(await saved(id), false)
  t.equal(await open(), 0)
})

t.test('so does a request in mode autocommit', async (t) => {
  const id = await prepare('of a request')
  t.equal((await app.inject('/autocommit')).statusCode, 200)
  t.equal(await saved(id), true)
})

t.test('a transaction that is not there is the server\'s error, and the connection stays', async (t) => {
  const { destroyed } = db.stats().counters
  await t.rejects(db.query('COMMIT PREPARED \'nothing\''), { code: '42704' })
  t.equal(db.stats().inUse, 0)
  t.same((await db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  if (db.stats().strategy === 'queue') t.equal(db.stats().counters.destroyed, destroyed)
})

t.test('in a session both are refused before anything is sent, with what to call instead', async (t) => {
  const refusal = { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL', details: /cannot run in a transaction.*app\.db\.query\(\)/ }
  for (const text of ['COMMIT PREPARED \'c\'', 'rollback prepared \'c\'']) {
    const session = db.session()
    await t.rejects(session.query(text), refusal)
    await t.rejects(session.stream(text).toArray(), refusal)
    t.equal(session.state, 'failed')
    await session.close()
    await t.rejects(db.scope((session) => session.transaction((inner) => inner.query(text)), { mode: 'autocommit' }), refusal)
  }
})

t.test('together with another statement, and PREPARE TRANSACTION itself, they are refused everywhere', async (t) => {
  for (const text of ['COMMIT PREPARED \'d\'; SELECT 1', 'PREPARE TRANSACTION \'d\'', 'COMMIT', 'COMMIT AND CHAIN', 'ROLLBACK TO SAVEPOINT prepared']) {
    await t.rejects(db.query(text), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' }, text)
    await t.rejects(db.scope((session) => session.query(text)), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' }, text)
  }
})
