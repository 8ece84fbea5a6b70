// A server, or a proxy, that breaks the protocol: whatever it sends, a statement fails or has its own answer, the
// next one is served, and nothing crashes or hangs. An uncaught exception fails the file.
import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { serverMessage, startTamperingProxy, type ServerMessage, type Tamper } from '../../../harness/tampering-proxy.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE saved (name text)')
const proxy = await startTamperingProxy(t, postgres)
const app = Fastify()
await app.register(pgScope, {
  connectionString: proxy.connectionString(postgres.connectionString),
  pool: { max: 2 },
  // What waits for bytes that never come is ended by this.
  answerTimeout: 1000
})
t.teardown(() => app.close())
const { db } = app

let count = 0
/** Another one each time, so that it is not prepared. */
const fresh = (): string => `SELECT a, 'victim' AS b FROM generate_series(1, 2) AS a -- ${++count}`
const prepared = 'SELECT a, $1::text AS b FROM generate_series(1, 2) AS a'
const rows = [{ a: 1, b: 'victim' }, { a: 2, b: 'victim' }]

/** What a case does to each message of an answer, in its words. */
interface Case {
  name: string
  tamper: Tamper
}

const pass = ({ bytes }: ServerMessage): Buffer => bytes
const nothing = Buffer.alloc(0)

/** Messages that come where they do not belong, or that are none. */
const wrong: Record<string, Buffer> = {
  ReadyForQuery: serverMessage('Z', 'I'),
  'ReadyForQuery without a status': serverMessage('Z'),
  'ReadyForQuery with an unknown status': serverMessage('Z', 'X'),
  PortalSuspended: serverMessage('s'),
  EmptyQueryResponse: serverMessage('I'),
  CommandComplete: serverMessage('C', 'SELECT 2\0'),
  'CommandComplete of a COMMIT': serverMessage('C', 'COMMIT\0'),
  'CommandComplete without its zero byte': serverMessage('C', 'SELECT 2'),
  'a row of another statement': serverMessage('D', Buffer.from([0, 1, 0, 0, 0, 1, 0x37])),
  'a row that is cut short': serverMessage('D', Buffer.from([0, 2, 0, 0, 0, 9, 0x37])),
  'a row with a negative length': serverMessage('D', Buffer.from([0, 2, 255, 255, 255, 0, 0, 0, 0, 0])),
  'a row with more columns than it has bytes': serverMessage('D', Buffer.from([255, 255])),
  'an empty row description': serverMessage('T', Buffer.from([0, 0])),
  'a row description that is cut short': serverMessage('T', Buffer.from([0, 1, 0x61])),
  CopyData: serverMessage('d', 'x'),
  CopyInResponse: serverMessage('G', Buffer.from([0, 0, 1, 0, 0])),
  'CopyInResponse that is cut short': serverMessage('G', Buffer.from([0, 0, 9])),
  CopyOutResponse: serverMessage('H', Buffer.from([0, 0, 1, 0, 0])),
  'an error of 11 bytes': serverMessage('E', 'SERROR'),
  'an error without fields': serverMessage('E', '\0'),
  'an error without its last zero byte': serverMessage('E', 'SERROR\0MOops\0'),
  'a notice that is cut short': serverMessage('N', 'SNOTICE'),
  'a notification that is cut short': serverMessage('A', Buffer.from([0, 0])),
  'a parameter that is cut short': serverMessage('S', 'TimeZone'),
  'a request for the password': serverMessage('R', Buffer.from([0, 0, 0, 3])),
  'another key to cancel with': serverMessage('K', Buffer.from([0, 0, 0, 3, 0, 0, 0, 4])),
  'an unknown type': serverMessage('?', 'x'),
  'a type of zero': serverMessage('\0', 'x'),
  'a length of zero': serverMessage('C', 'x', 0),
  'a length of 3': serverMessage('C', 'x', 3),
  'a length of 2 GiB': serverMessage('D', 'x', 0x7fffffff),
  'a length of 4 GiB': serverMessage('D', 'x', 0xffffffff),
  'HTTP instead': Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')
}

/** @param places of the messages that are tampered with; others are left as they are */
function * cases (answer: readonly string[], places: readonly number[]): Iterable<Case> {
  for (const [place, type] of answer.entries()) {
    if (!places.includes(place)) continue
    const at = (change: (bytes: Buffer) => Buffer): Tamper =>
      (message, index) => index === place ? change(message.bytes) : pass(message)
    yield { name: `message ${place} (${type}) is missing`, tamper: at(() => nothing) }
    yield { name: `message ${place} (${type}) comes twice`, tamper: at((bytes) => Buffer.concat([bytes, bytes])) }
    for (const [name, bytes] of Object.entries(wrong)) {
      yield { name: `${name} in the place of message ${place} (${type})`, tamper: at(() => bytes) }
      if (place === 3) yield { name: `${name} in front of message ${place} (${type})`, tamper: at((own) => Buffer.concat([bytes, own])) }
    }
  }
}

/** One way to run the statement. */
type Run = () => Promise<unknown>

const single: Run = async () => (await db.query(fresh())).rows
const again: Run = async () => (await db.query(prepared, ['victim'])).rows
const inTransaction: Run = () => db.scope(async (session) => {
  await session.query('SELECT 1')
  await session.query('INSERT INTO saved VALUES (\'first\')')
  return (await session.query(fresh())).rows
})
const streamed: Run = () => db.scope(async (session) => {
  const all: unknown[] = []
  for await (const row of session.stream(fresh())) all.push(row)
  return all
})

/** What becomes of the statement, and of the one behind it. */
async function outcomeOf (run: Run, { tamper }: Pick<Case, 'tamper'>, marker = 'victim'): Promise<string> {
  let tampered = false
  proxy.arm(marker, (message, index) => {
    tampered = true
    return tamper(message, index)
  })
  let outcome: string
  try {
    const answer = await run()
    outcome = JSON.stringify(answer) === JSON.stringify(rows) ? 'fine' : `a wrong answer: ${JSON.stringify(answer)}`
  } catch (error) {
    outcome = error instanceof Error ? 'fine' : 'rejected with something that is no error'
  } finally {
    proxy.disarm()
  }
  if (!tampered) outcome = 'it was never tampered with'
  const next = await db.query('SELECT $1::text AS a', ['next'])
  if (next.rows[0].a !== 'next') outcome += `, and the next one got ${JSON.stringify(next.rows)}`
  return outcome
}

const answer = ['1', '2', 'T', 'D', 'D', 'C', 'Z']
const kinds: [string, Run, string[], number[]][] = [
  ['a statement by itself', single, answer, [0, 1, 2, 3, 5, 6]],
  ['a statement that is prepared', again, answer.slice(1).filter((type) => type !== 'T'), [0, 1]],
  ['a statement in a transaction', inTransaction, answer, [2, 5]]
]
for (const [name, run, answer, places] of kinds) {
  t.test(`${name} fails or has its own rows, whatever the server answers`, async t => {
    const failed: string[] = []
    let tried = 0
    for (const one of cases(answer, places)) {
      tried++
      const outcome = await outcomeOf(run, one)
      if (outcome !== 'fine') failed.push(`${one.name}: ${outcome}`)
    }
    t.same(failed, [], `${tried} cases`)
    t.ok(tried > 60)
    t.match(db.stats(), { inUse: 0, waiting: 0 })
  })
}

t.test('a stream fails or has its own rows', async t => {
  const failed: string[] = []
  for (const [name, bytes] of Object.entries(wrong)) {
    const outcome = await outcomeOf(streamed, { tamper: (message, index) => index === 4 ? bytes : message.bytes })
    if (outcome !== 'fine') failed.push(`${name}: ${outcome}`)
  }
  t.same(failed, [])
  t.match(db.stats(), { inUse: 0, waiting: 0 })
})

t.test('a connection that ends at any byte of an answer is replaced', async t => {
  const failed: string[] = []
  let bytes = 0
  await outcomeOf(single, { tamper: (message) => { bytes += message.bytes.length; return message.bytes } })
  t.ok(bytes > 100)
  for (let cut = 0; cut < bytes; cut++) {
    let passed = 0
    const outcome = await outcomeOf(single, {
      tamper: (message) => {
        const rest = cut - passed
        passed += message.bytes.length
        if (rest >= message.bytes.length) return message.bytes
        return rest > 0 ? message.bytes.subarray(0, rest) : null
      }
    })
    if (outcome !== 'fine') failed.push(`cut at byte ${cut}: ${outcome}`)
  }
  t.same(failed, [])
  await waitFor(() => db.stats().inUse === 0, { message: 'every connection is given back' })
  t.equal(db.stats().waiting, 0)
})

t.test('an error inside of a row that broke off, as PgBouncer sends it, is a lost connection', async t => {
  const farewell = serverMessage('E', 'SFATAL\0C08P01\0Mserver conn crashed?\0\0')
  const tamper: Tamper = (message, index) => {
    if (index < 4) return message.bytes
    return index === 4 ? Buffer.concat([message.bytes.subarray(0, 12), farewell]) : null
  }
  proxy.arm('victim', tamper)
  await t.rejects(inTransaction(), { code: 'FST_PG_SCOPE_CONNECTION_LOST', statusCode: 503 })
  proxy.arm('victim', tamper)
  await t.rejects(single(), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  proxy.disarm()
  t.same((await postgres.query('SELECT * FROM saved')).rows.filter(({ name }) => name !== 'first'), [])
})

t.test('COMMIT that is answered wrongly has an unknown outcome', async t => {
  for (const [name, bytes] of Object.entries({ ReadyForQuery: nothing, PortalSuspended: wrong.PortalSuspended!, 'a row': wrong['a row of another statement']! })) {
    await t.rejects(db.scope(async (session) => {
      await session.query('SELECT 1')
      proxy.arm('COMMIT', (message, index) => index === 0 ? bytes : message.bytes)
    }).finally(() => proxy.disarm()), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' }, name)
  }
  t.match(db.stats(), { inUse: 0 })
})

t.test('what a server says wrongly while it is logged in to fails the boot, and ends', async t => {
  for (const [name, bytes] of Object.entries({ ...wrong, 'a login without methods': serverMessage('R', Buffer.from([0, 0, 0, 10])), nothing })) {
    const app = Fastify()
    proxy.arm('', (message, index) => index === 0 ? (bytes.length === 0 ? null : bytes) : message.bytes)
    await t.rejects(async () => {
      await app.register(pgScope, {
        connectionString: proxy.connectionString(postgres.connectionString), pool: { acquireTimeout: 1000 }
      })
    },
    { code: /^FST_PG_SCOPE_(UNREACHABLE|LOGIN_REFUSED)$/ }, name)
    proxy.disarm()
    await app.close()
  }
})

onlyDirect(t, 'of its memory').test('a value that is longer than a string can be fails its statement, and the connection is replaced', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 1 } })
  t.teardown(() => app.close())
  const { db } = app
  const { pid } = (await db.query('SELECT pg_backend_pid() AS pid')).rows[0]
  await t.rejects(db.query('SELECT repeat(\'x\', 537000000) AS a'), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /longer than a string/ })
  t.not((await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid, pid)
  await waitFor(() => db.stats().inUse === 0)
})
