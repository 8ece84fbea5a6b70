import Fastify, { type FastifyInstance } from 'fastify'
import { isPgScopeError } from '../../lib/errors.ts'
import type { Session } from '../../types/session.ts'
import pgScope from '../plugin.ts'
import type { TestPostgres } from '../postgres.ts'
import { randomOf } from '../random.ts'
import { serverMessage, startTamperingProxy, type ServerMessage, type TamperingProxy } from '../tampering-proxy.ts'

export interface AnswerFuzzOptions {
  postgres: TestPostgres
  /** How many answers are changed. */
  answers: number
  seed: number
}

export interface AnswerFuzzResult {
  /** Where the rule was broken, in words. */
  failures: string[]
  /** Victims that failed; the others had their own rows in spite of the change. */
  failed: number
}

/** Apps at the same time, each with a network of its own. */
const lanes = 4
const connections = 3

/** What is passed on in the place of a message. */
type Change = (bytes: Buffer, random: () => number) => Buffer

const pick = <T>(random: () => number, all: readonly T[]): T => all[Math.floor(random() * all.length)]!
const garbage = (random: () => number, most: number): Buffer =>
  Buffer.from(Array.from({ length: 1 + Math.floor(random() * most) }, () => random() * 256))
const notice = serverMessage('N', 'SNOTICE\0C00000\0Mhello\0\0')

const changes: Record<string, Change> = {
  'a header with another byte': (bytes, random) => {
    const changed = Buffer.from(bytes)
    changed[Math.floor(random() * 5)] = Math.floor(random() * 256)
    return changed
  },
  'a body with another byte': (bytes, random) => {
    // Another value, name, tag or status is an answer like any other: no client can tell.
    if (bytes.length === 5 || 'DTCZ'.includes(String.fromCharCode(bytes[0]!))) return bytes
    const changed = Buffer.from(bytes)
    changed[5 + Math.floor(random() * (bytes.length - 5))] = Math.floor(random() * 256)
    return changed
  },
  garbage: (_bytes, random) => garbage(random, 40),
  'garbage before it': (bytes, random) => Buffer.concat([garbage(random, 6), bytes]),
  'garbage behind it': (bytes, random) => Buffer.concat([bytes, garbage(random, 40)]),
  'half of it': (bytes, random) => bytes.subarray(0, Math.floor(random() * bytes.length)),
  'a huge length': (bytes, random) =>
    serverMessage(pick(random, ['D', 'C', 'E', 'N', 'T', 'S', 'Z', '1']), bytes.subarray(5), 2 ** 31 - 1),
  'a large length that may be': (bytes, random) =>
    serverMessage(pick(random, ['D', 'N', 'E']), bytes.subarray(5), 2 ** 20),
  'ReadyForQuery before it': (bytes, random) => Buffer.concat([ready(random), bytes]),
  'several ReadyForQuery behind it': (bytes, random) =>
    Buffer.concat([bytes, ...Array.from({ length: 1 + Math.floor(random() * 3) }, () => ready(random))]),
  'a flood of notices': (bytes) => Buffer.concat([...new Array<Buffer>(2000).fill(notice), bytes]),
  nothing: () => Buffer.alloc(0),
  'it twice': (bytes) => Buffer.concat([bytes, bytes])
}

function ready (random: () => number): Buffer {
  return serverMessage('Z', pick(random, ['I', 'T', 'E']))
}

const text = (id: number): string => `SELECT ${id} AS id, 'victim' AS name FROM generate_series(1, 3)`
const rowsOf = (id: number): object[] => Array.from({ length: 3 }, () => ({ id, name: 'victim' }))
/** The same text each time, so that it is prepared. */
const prepared = 'SELECT $1::int AS id, $2::text AS name FROM generate_series(1, 3)'
const insert = "INSERT INTO answers SELECT $1 WHERE 'victim' = $2"

/** Shorter than that of the statements around it: what waits for bytes that never come is ended by this. */
const victimOptions = { answerTimeout: 1000 }
const patientOptions = { answerTimeout: 60_000 }

type Way = (session: Session, id: number) => Promise<unknown>

/** What a victim runs. Each returns rowsOf(id). */
const ways: Record<string, Way> = {
  'a statement': async (session, id) => (await session.query(text(id))).rows,
  'a prepared statement': async (session, id) => (await session.query(prepared, [id, 'victim'])).rows,
  'a statement that writes': async (session, id) => {
    await session.query(insert, [id, 'victim'])
    return rowsOf(id)
  },
  'statements that are called together': async (session, id) => {
    const [, { rows }] = await Promise.all([
      session.query(insert, [id, 'victim']), session.query(prepared, [id, 'victim']), session.query(text(id))
    ])
    return rows
  },
  'a stream': (session, id) => session.stream(text(id), [], { batchSize: 2 }).toArray(),
  'a nested transaction': (session, id) => session.transaction(async (nested) => {
    await nested.query(insert, [id, 'victim'])
    return (await nested.query(text(id))).rows
  })
}
const writes = ['a statement that writes', 'statements that are called together', 'a nested transaction']

/**
 * Changes answers of the server at random. Each victim fails or has its own rows, and is saved if and only if it
 * succeeded; statements beside it fail or have their own rows; the statement after it is served.
 */
export async function fuzzAnswers ({ postgres, answers, seed }: AnswerFuzzOptions): Promise<AnswerFuzzResult> {
  const result: AnswerFuzzResult = { failures: [], failed: 0 }
  const teardowns: (() => unknown)[] = []
  const t = { teardown: (callback: () => unknown) => teardowns.push(callback) }
  await postgres.query('CREATE TABLE IF NOT EXISTS answers (id int)')
  let id = 0
  try {
    await Promise.all(Array.from({ length: lanes }, async (_, lane) => {
      const random = randomOf(seed + lane)
      const proxy = await startTamperingProxy(t, postgres)
      const app = Fastify()
      t.teardown(() => app.close())
      await app.register(pgScope, {
        connectionString: proxy.connectionString(postgres.connectionString),
        ...patientOptions,
        pool: { max: connections }
      })
      for (let i = lane; i < answers; i += lanes) {
        const failures = await tryOne({ app, proxy, postgres, random, result }, id += 10)
        for (const failure of failures) result.failures.push(`seed ${seed}, lane ${lane}, answer ${i}: ${failure}`)
      }
      const { inUse, waiting } = app.db.stats()
      if (inUse + waiting > 0) result.failures.push(`${inUse} connections in use and ${waiting} waiting at the end`)
    }))
    return result
  } finally {
    for (const teardown of teardowns.reverse()) await teardown()
  }
}

function isUnknown (answer: unknown): boolean {
  return isPgScopeError(answer) && answer.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
}

interface Lane {
  app: FastifyInstance
  proxy: TamperingProxy
  postgres: TestPostgres
  random: () => number
  result: AnswerFuzzResult
}

async function tryOne ({ app: { db }, proxy, postgres, random, result }: Lane, id: number): Promise<string[]> {
  const change = pick(random, Object.keys(changes))
  const way = pick(random, Object.keys(ways))
  const mode = random() < 0.5 ? 'transaction' : 'autocommit'
  const place = Math.floor(random() * 18)
  // Without what follows, most cases would wait for answerTimeout.
  const cuts = random() < 0.8
  let types = ''
  proxy.arm('victim', ({ type, bytes }: ServerMessage, index) => {
    if (index <= place) types += type
    if (index === place) return changes[change]!(bytes, random)
    return index > place && cuts ? null : bytes
  })
  const beside = Array.from({ length: 2 }, (_, n) => neighbor(id + 1 + n))
  const answer: unknown = await db.scope((session) => ways[way]!(session, id), { ...victimOptions, mode })
    .catch((error) => error)
  proxy.disarm()
  const failures = (await Promise.all(beside)).filter((failure) => failure !== '')
  const next = await db.scope((session) => session.query('SELECT $1::int AS id', [id + 5]))
    .then(({ rows }) => rows[0].id, String)
  if (next !== id + 5) failures.push(`the next one got ${next}`)
  if (answer instanceof Error) result.failed++
  else if (JSON.stringify(answer) !== JSON.stringify(rowsOf(id))) failures.push(`got ${JSON.stringify(answer)}`)
  if (mode === 'transaction' && writes.includes(way) && !isUnknown(answer)) {
    const { rowCount } = await postgres.query('SELECT FROM answers WHERE id = $1', [id])
    const wanted = answer instanceof Error ? 0 : 1
    if (rowCount !== wanted) failures.push(`saved ${rowCount} times after ${answer instanceof Error ? answer : 'success'}`)
  }
  const what = `${way} in mode ${mode}, ${change} at message ${place} (${types}), ${cuts ? 'then cut' : 'not cut'}`
  return failures.map((failure) => `${what}: ${failure}`)

  async function neighbor (id: number): Promise<string> {
    const { rows } = await db.query('SELECT $1::int AS id', [id]).catch(() => ({ rows: [{ id }] }))
    return rows.length === 1 && rows[0].id === id ? '' : `a statement beside it got ${JSON.stringify(rows)}`
  }
}
