// Idempotent requests, and commits that are resolved, in a sandbox.
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { idempotencyTable, purgeIdempotencyKeys } from '../../../lib/idempotency/index.ts'
import { openSandbox, type Sandbox } from '../../../lib/testing/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query(idempotencyTable)
await postgres.query('CREATE TABLE things (name text)')

type Post = (key: string, name?: string) => Promise<{ status: number, body: string, replayed: string | undefined }>

interface Shop {
  app: FastifyInstance
  sandbox: Sandbox
  post: Post
  names (): Promise<string[]>
}

async function open (t: Test): Promise<Shop> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, resolveCommits: true, exposeErrors: true })
  let calls = 0
  app.post<{ Body: { name: string } }>('/', { config: { db: { idempotency: { ttl: 1 }, retry: 2 } } }, async (request, reply) => {
    await request.db.query('INSERT INTO things VALUES ($1)', [request.body.name])
    if (request.body.name === 'fails' && calls++ === 0) throw new Error('not yet')
    if (request.body.name === 'conflict' && request.db.attempt === 1) await request.db.query('DO $$ BEGIN RAISE EXCEPTION \'x\' USING ERRCODE = \'40001\'; END $$')
    return reply.code(201).send({ attempt: request.db.attempt })
  })
  const sandbox = await openSandbox(app)
  return {
    app,
    sandbox,
    async post (key, name = 'thing') {
      const { statusCode, body, headers } = await app.inject({ method: 'POST', url: '/', payload: { name }, headers: { 'idempotency-key': key } })
      return { status: statusCode, body, replayed: headers['idempotency-replayed'] as string | undefined }
    },
    names: async () => (await app.db.query<{ name: string }>('SELECT name FROM things')).rows.map(({ name }) => name)
  }
}

t.test('a repeated request gets the first answer in the sandbox too, until rollback()', async (t) => {
  const { sandbox, post, names } = await open(t)
  const first = { status: 201, body: '{"attempt":1}', replayed: undefined }
  for (let round = 0; round < 2; round++) {
    t.same(await post('k'), first)
    t.same(await post('k'), { ...first, replayed: 'true' })
    t.match(await post('k', 'another'), { status: 422, body: /IDEMPOTENCY_MISMATCH/ })
    t.same(await names(), ['thing'])
    await sandbox.rollback()
    t.same(await names(), [])
  }
  t.equal((await postgres.query('SELECT FROM pg_scope_idempotency')).rowCount, 0)
})

t.test('requests with the same key at once are served one after another, and done once', async (t) => {
  const { post, names } = await open(t)
  const answers = await Promise.all(Array.from({ length: 5 }, () => post('k')))
  t.same(answers.map(({ status }) => status), [201, 201, 201, 201, 201])
  t.equal(answers.filter(({ replayed }) => replayed === undefined).length, 1)
  t.same(await names(), ['thing'])
})

t.test('a rolled-back request may be repeated, and retry works with the key', async (t) => {
  const { post, names } = await open(t)
  t.same([(await post('a', 'fails')).status, (await post('a', 'fails')).status], [500, 201])
  t.match(await post('b', 'conflict'), { status: 201, body: '{"attempt":2}' })
  t.match(await post('b', 'conflict'), { status: 201, body: '{"attempt":2}', replayed: 'true' })
  t.same(await names(), ['fails', 'conflict'])
})

t.test('as now() stands still, no key expires before rollback()', async (t) => {
  const { app, sandbox, post } = await open(t)
  await post('k')
  await new Promise((resolve) => setTimeout(resolve, 10))
  t.equal((await post('k')).replayed, 'true')
  t.equal(await purgeIdempotencyKeys(app.db), 0)
  await sandbox.rollback()
  t.equal((await post('k')).replayed, undefined)
})
