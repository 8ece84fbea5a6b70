// A text of several statements that begins and ends transactions has the effect that PostgreSQL gives it.
import { once } from 'node:events'
import pg from 'pg'
import t from 'tap'
import { clientOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const add = (name: string) => `INSERT INTO person (full_name) VALUES ('${name}')`
const orphan = "INSERT INTO pet (owner_id, name) VALUES (-1, 'x')"

/** Each program is calls that are made at once, none of them awaited before the next one. */
const programs: string[][] = [
  [`SELECT 1; BEGIN; ${add('a')}`, add('b'), 'COMMIT'],
  [`SELECT 1; BEGIN; ${add('a')}`, add('b'), 'ROLLBACK'],
  [`SELECT pg_sleep(0.1); BEGIN; ${add('a')}`, add('b'), `COMMIT; ${add('c')}; BEGIN; ${add('d')}`, add('e'), 'ROLLBACK'],
  [`${add('a')}; BEGIN; ${add('b')}; ROLLBACK`],
  [`${add('a')}; BEGIN; ${add('b')}; COMMIT; ${add('c')}`],
  [`${add('a')}; SELECT 1/0; BEGIN; ${add('b')}; COMMIT`],
  [`BEGIN; ${add('a')}; COMMIT; SELECT 1; BEGIN; ${add('b')}`, add('c'), 'ROLLBACK'],
  [`BEGIN; ${add('a')}; COMMIT; SELECT 1/0; BEGIN; ${add('b')}; COMMIT`],
  [`BEGIN; ${add('a')}; COMMIT; ${add('b')}; SELECT 1/0; BEGIN; ${add('c')}; COMMIT; ${add('d')}`],
  [`BEGIN; ${add('a')}; COMMIT AND CHAIN; ${add('b')}`, add('c'), 'ROLLBACK'],
  [`BEGIN; ${add('a')}; ROLLBACK AND CHAIN; ${add('b')}`, add('c'), 'COMMIT'],
  [`BEGIN; ${add('a')}; ROLLBACK; BEGIN; ${add('b')}`, add('c'), 'COMMIT'],
  ['BEGIN', add('a'), `ROLLBACK; BEGIN; ${add('b')}`, add('c'), 'COMMIT'],
  ['BEGIN', add('a'), `COMMIT; ${add('b')}; BEGIN; ${add('c')}`, 'ROLLBACK'],
  [`${add('a')}; ROLLBACK; ${add('b')}`],
  [`${add('a')}; COMMIT; ${add('b')}; SELECT 1/0`],
  [`${add('a')}; COMMIT; ${add('b')}; ROLLBACK; ${add('c')}`],
  [`SELECT 1/0; ROLLBACK; ${add('a')}`],
  [`BEGIN; ${orphan}; COMMIT; ${add('a')}`],
  [`BEGIN; ${orphan}; COMMIT; BEGIN; ${add('a')}; COMMIT`],
  [`BEGIN; ${orphan}; COMMIT AND CHAIN; ${add('a')}; COMMIT`],
  [`${orphan}; COMMIT; ${add('a')}`],
  ['COMMIT AND CHAIN'],
  [`${add('a')}; COMMIT AND CHAIN; ${add('b')}; COMMIT`],
  [`${add('a')}; ROLLBACK AND CHAIN; ${add('b')}`],
  [`BEGIN; ${add('a')}; COMMIT; COMMIT AND CHAIN; ${add('b')}`],
  [`${add('a')}; SAVEPOINT s; ${add('b')}; COMMIT`],
  [`BEGIN; ${add('a')}; SAVEPOINT s; ${add('b')}; ROLLBACK TO s; COMMIT; ${add('c')}; RELEASE s; ${add('d')}`],
  [`SELECT 1; BEGIN READ ONLY; ${add('a')}; COMMIT`],
  [`SELECT 1; BEGIN ISOLATION LEVEL SERIALIZABLE; ${add('a')}; COMMIT`],
  [`${add('a')}; SET TRANSACTION READ ONLY; SELECT 1`],
  [`${add('a')}; SET TRANSACTION READ ONLY; ${add('b')}`],
  [`SET TRANSACTION READ ONLY; ${add('a')}; COMMIT`],
  [`SET TRANSACTION READ ONLY; ${add('a')}`],
  [`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; ${add('a')}`, add('b')],
  [`COMMIT; SET TRANSACTION READ ONLY; ${add('a')}; ROLLBACK; ${add('b')}`]
]

/** What the calls answer, and the state of the client at the end. A ROLLBACK need not wait for what it undoes. */
async function run (
  client: pg.ClientBase, program: readonly string[], answered?: Promise<unknown>
): Promise<unknown[]> {
  const outcomes = await Promise.all(program.map((text) => client.query(text).then(
    (result: any) => [result].flat().map(({ command }) => command).join(),
    () => 'rejected'
  )))
  await answered
  const status = client.getTransactionStatus?.()
  await client.query('ROLLBACK')
  return [program.at(-1) === 'ROLLBACK' ? 'rolled back' : outcomes, status]
}

t.test('transactions in a text, in front of calls that are not awaited, are those of PostgreSQL', async (t) => {
  const { db, database, people } = await startShop(t, postgres)
  const reference = new pg.Client({ connectionString: database })
  await reference.connect()
  t.teardown(() => reference.end())
  const left = async (): Promise<string[]> => {
    const names = (await people()).slice(2)
    await postgres.query('DELETE FROM person WHERE id > 2', undefined, database)
    return names
  }
  for (const program of programs) {
    // A call of pg is rejected by the server's error, which may come before the state that the server is in then.
    const expected = [await run(reference, program, once(reference, 'drain')), await left()]
    const client = await poolOf(db).connect()
    t.same([await run(client, program), await left()], expected, `on an engine: ${program.join(' | ')}`)
    client.release()
    await using session = db.session({ mode: 'autocommit' })
    t.same([await run(clientOf(session), program), await left()], expected, `in mode autocommit: ${program.join(' | ')}`)
  }
  t.equal(db.stats().inUse, 0)
})

t.test('calls behind a text that has failed in front of its BEGIN are not committed', async (t) => {
  const { db, people } = await startShop(t, postgres)
  for (const text of [`SELECT 1/0; BEGIN; ${add('a')}`, `BEGIN; ${orphan}; COMMIT AND CHAIN; ${add('a')}`]) {
    const client = await poolOf(db).connect()
    const failed = client.query(text)
    const later = [client.query(add('b')), client.query('COMMIT')]
    await t.rejects(failed, { code: /^(?:22012|23503)$/ }, text)
    await Promise.allSettled(later)
    t.equal(client.getTransactionStatus?.(), 'I', text)
    client.release()
  }
  const client = await poolOf(db).connect()
  await client.query(`BEGIN; ${orphan}`)
  const failed = client.query('COMMIT AND CHAIN')
  const later = client.query(add('c'))
  await t.rejects(failed, { code: '23503' })
  await t.rejects(later)
  t.equal(client.getTransactionStatus?.(), 'I')
  await client.query(add('d'))
  client.release()
  t.same(await people(), ['Ada', 'Grace', 'd'])
})

t.test('AND CHAIN keeps the modes that BEGIN and SET TRANSACTION have set later', async (t) => {
  const { db } = await startShop(t, postgres)
  const client = await poolOf(db).connect()
  const readOnly = async () => (await client.query('SHOW transaction_read_only')).rows[0].transaction_read_only
  await client.query('SELECT 1; BEGIN READ ONLY; COMMIT AND CHAIN')
  t.equal(await readOnly(), 'on')
  await client.query('COMMIT; BEGIN; SET TRANSACTION READ ONLY; COMMIT AND CHAIN')
  t.equal(await readOnly(), 'on')
  client.release()
})

t.test('nothing was unhandled', async (t) => {
  t.same(unhandled, [])
})
