// npm run exactly-once -- [SECONDS [ROUNDS]]: what `retry`, `resolveCommits` and `idempotency` cost a route.
// All variants run in turns; the figures are the medians of their shares of the plain route in the same round.
import autocannon from 'autocannon'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { startPostgres } from '../../lib/embedded/index.ts'
import { idempotencyTable } from '../../lib/idempotency/index.ts'
import pgScope from '../../lib/index.ts'
import { median } from '../benchmark/median.ts'

const [seconds = 3, rounds = 5] = process.argv.slice(2).map(Number)
const connections = 32

const schema = `
  CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
  INSERT INTO account SELECT id, 0 FROM generate_series(1, 10000) AS id;
  CREATE TABLE entry (account int NOT NULL, amount int NOT NULL);
  CREATE TABLE own_key (key text PRIMARY KEY, answer text);
  ${idempotencyTable}`

async function work ({ db }: FastifyRequest): Promise<{ account: number }> {
  const account = 1 + Math.floor(Math.random() * 10000)
  await db.query('UPDATE account SET balance = balance + 1 WHERE id = $1', [account])
  await db.query('INSERT INTO entry VALUES ($1, 1)', [account])
  return { account }
}

/** As an app does it that has no option for it. */
async function workByHand (request: FastifyRequest): Promise<unknown> {
  const key = request.headers['idempotency-key']
  const { db } = request
  const { rowCount } = await db.query('INSERT INTO own_key (key) VALUES ($1) ON CONFLICT DO NOTHING', [key])
  if (rowCount === 0) return JSON.parse((await db.query('SELECT answer FROM own_key WHERE key = $1', [key])).rows[0].answer)
  const answer = await work(request)
  await db.query('UPDATE own_key SET answer = $2 WHERE key = $1', [key, JSON.stringify(answer)])
  return answer
}

interface Served { app: FastifyInstance, url: string }

async function open (connectionString: string, resolveCommits: boolean): Promise<Served> {
  const app = Fastify()
  await app.register(pgScope, { connectionString, resolveCommits })
  app.post('/plain', work)
  app.post('/retry', { config: { db: { retry: 3 } } }, work)
  app.post('/retry-send', { config: { db: { retry: 3 } } }, async (request, reply) => reply.code(201).send(await work(request)))
  app.post('/plain-send', async (request, reply) => reply.code(201).send(await work(request)))
  app.post('/idempotency', { config: { db: { idempotency: true } } }, work)
  app.post('/by-hand', workByHand)
  return { app, url: await app.listen({ port: 0, host: '127.0.0.1' }) }
}

let runs = 0

/** Requests a second. */
async function measure (url: string): Promise<number> {
  const result = await autocannon({
    url,
    method: 'POST',
    connections,
    duration: seconds,
    // In a thread of its own.
    workers: 1,
    idReplacement: true,
    headers: { 'idempotency-key': `"${process.pid}-${runs++}-[<id>]"` }
  })
  if (result.non2xx + result.errors > 0) throw new Error(`${url}: ${result.non2xx} wrong answers, ${result.errors} errors`)
  return result.requests.average
}

const postgres = await startPostgres()
const plain = await open(postgres.connectionString, false)
const resolving = await open(postgres.connectionString, true)
await plain.app.db.query(schema)
const variants: Record<string, [url: string, base: string]> = {
  plain: [`${plain.url}/plain`, 'plain'],
  'plain, by reply.send()': [`${plain.url}/plain-send`, 'plain, by reply.send()'],
  retry: [`${plain.url}/retry`, 'plain'],
  'retry, by reply.send()': [`${plain.url}/retry-send`, 'plain, by reply.send()'],
  resolveCommits: [`${resolving.url}/plain`, 'plain'],
  idempotency: [`${plain.url}/idempotency`, 'plain'],
  'a key table by hand': [`${plain.url}/by-hand`, 'plain']
}
const figures: Record<string, number[]> = {}
const shares: Record<string, number[]> = {}
for (let round = -1; round < rounds; round++) {
  const now: Record<string, number> = {}
  for (const [name, [url]] of Object.entries(variants)) now[name] = await measure(url)
  if (round === -1) continue // warm-up
  for (const [name, [, base]] of Object.entries(variants)) {
    (figures[name] ??= []).push(now[name]!);
    (shares[name] ??= []).push(now[name]! / now[base]!)
  }
}
await plain.app.close()
await resolving.app.close()
await postgres.stop()

console.log('| route | requests a second | share of the plain route |\n|---|---|---|')
for (const name of Object.keys(variants)) {
  console.log(`| ${name} | ${median(figures[name]!).toFixed(0)} | ${(median(shares[name]!) * 100).toFixed(1)} % |`)
}
