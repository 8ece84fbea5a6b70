import Fastify, { type FastifyInstance } from 'fastify'
import { ApolloServer } from '@apollo/server'
import { fastifyApolloDrainPlugin, fastifyApolloHandler } from '@as-integrations/fastify'
import { makeExecutableSchema } from '@graphql-tools/schema'
import mercurius from 'mercurius'
import t, { type Test } from 'tap'
import { apolloTransactions, type GraphqlOptions, mercuriusTransactions } from '../../../lib/graphql/index.ts'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text PRIMARY KEY)')
t.beforeEach(async () => { await postgres.query('TRUNCATE note') })
const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)

const typeDefs = `
  type Note { text: String!, length: Int, broken: Int }
  type Query { fine: Int, slow: Int, broken: Int, notes: [Note!]! }
  type Mutation { add (text: String!): Note, addThenFail (text: String!): Note }`

/** A module-level repository, which finds the session of the request by itself. */
const resolversOf = (app: FastifyInstance) => {
  const add = async (_root: unknown, { text }: { text: string }) => {
    await app.db.current().query('INSERT INTO note VALUES ($1)', [text])
    return { text }
  }
  return {
    Query: {
      fine: async () => (await app.db.current().query('SELECT 1 AS n')).rows[0].n,
      slow: async () => (await app.db.current().query('SELECT 2 AS n FROM pg_sleep(0.02)')).rows[0].n,
      broken: async () => (await app.db.current().query('SELECT 1 / 0 AS n')).rows[0].n,
      notes: async () => (await app.db.current().query('SELECT text FROM note ORDER BY 1')).rows
    },
    Note: {
      length: async ({ text }: { text: string }) => (await app.db.current().query('SELECT length($1) AS n', [text])).rows[0].n,
      broken: async () => (await app.db.current().query('SELECT 1 / 0 AS n')).rows[0].n
    },
    Mutation: {
      add,
      addThenFail: async (root: unknown, args: { text: string }) => {
        await add(root, args)
        throw new Error('changed my mind')
      }
    }
  }
}

type Server = (app: FastifyInstance, options: GraphqlOptions | null) => Promise<void>

const servers: Record<string, Server> = {
  async Mercurius (app, options) {
    const schema = makeExecutableSchema({ typeDefs, resolvers: resolversOf(app) })
    await app.register(mercurius, { schema, path: '/graphql' })
    if (options !== null) await app.register(mercuriusTransactions, options)
  },
  async Apollo (app, options) {
    const apollo = new ApolloServer({
      schema: makeExecutableSchema({ typeDefs, resolvers: resolversOf(app) }),
      plugins: [
        fastifyApolloDrainPlugin(app as never),
        ...(options === null ? [] : [apolloTransactions(app.db, options)])
      ]
    })
    await apollo.start()
    app.route({ url: '/graphql', method: ['GET', 'POST'], handler: fastifyApolloHandler(apollo as never) as never })
  }
}

async function start (t: Test, server: Server, options: GraphqlOptions | null, plugin: PgScopeOptions = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...plugin })
  await server(app, options)
  return async (query: string) => {
    const answer = await app.inject({ method: 'POST', url: '/graphql', payload: { query } })
    return { status: answer.statusCode, ...answer.json() }
  }
}

const messages = ({ errors = [] }: { errors?: { message: string }[] }): string[] =>
  errors.map(({ message }) => message)

for (const [name, server] of Object.entries(servers)) {
  t.test(`${name}: resolvers side by side share the session of the request, and a success is committed`, async (t) => {
    const send = await start(t, server, {})
    t.match(await send('{ fine, slow }'), { status: 200, data: { fine: 1, slow: 2 } })
    const answer = await send('mutation { a: add (text: "a") { length } b: add (text: "bb") { length } }')
    t.match(answer, { data: { a: { length: 1 }, b: { length: 2 } } })
    t.same(await saved(), ['a', 'bb'])
  })

  t.test(`${name}, errors: 'rollback': an answer with errors keeps its messages, and nothing is saved`, async (t) => {
    const send = await start(t, server, { errors: 'rollback' })
    const answer = await send('mutation { a: add (text: "a") { text } b: add (text: "a") { text } }')
    t.equal(answer.status, 200)
    t.match(messages(answer), [/duplicate key/])
    const thrown = await send('mutation { a: add (text: "a") { text } b: addThenFail (text: "b") { text } }')
    t.match(thrown, { status: 200, errors: [{ message: 'changed my mind' }] })
    t.same(await saved(), [])
    t.match(messages(await send('{ fine, broken, slow }')), [/division by zero/], 'the first one')
  })

  t.test(`${name}, errors: 'isolate': a field that fails is undone alone, the others are committed and answered`, async (t) => {
    const send = await start(t, server, { errors: 'isolate' })
    const answer = await send('mutation { a: add (text: "a") { text } b: add (text: "a") { text } c: addThenFail (text: "c") { text } d: add (text: "d") { length } }')
    t.match(answer, { status: 200, data: { a: { text: 'a' }, b: null, c: null, d: { length: 1 } } })
    t.match(messages(answer), [/duplicate key/, /changed my mind/])
    t.same(await saved(), ['a', 'd'])
    const read = await send('{ fine, broken, slow, notes { text } }')
    t.match(read.data, { fine: 1, broken: null, slow: 2, notes: [{ text: 'a' }, { text: 'd' }] })
    t.match(messages(read), [/division by zero/])
  })

  t.test(`${name}, errors: 'isolate': a failure below a field rolls back, and the answer keeps its messages`, async (t) => {
    const send = await start(t, server, { errors: 'isolate' })
    const answer = await send('mutation { a: add (text: "a") { broken } }')
    t.equal(answer.status, 200)
    t.match(messages(answer), [/division by zero/])
    t.same(await saved(), [])
  })

  t.test(`${name}: without the plugin a failed statement is never answered as a success`, async (t) => {
    const send = await start(t, server, null)
    const answer = await send('mutation { a: add (text: "a") { text } b: add (text: "a") { text } }')
    t.equal(answer.status, 500)
    t.match(JSON.stringify(answer), /FST_PG_SCOPE_TRANSACTION_ABORTED/)
    t.same(await saved(), [])
  })

  t.test(`${name}: in mode 'autocommit' each statement is committed by itself`, async (t) => {
    const send = await start(t, server, {}, { mode: 'autocommit' })
    const answer = await send('mutation { a: add (text: "a") { text } b: add (text: "a") { text } }')
    t.equal(answer.status, 200)
    t.match(messages(answer), [/duplicate key/])
    t.same(await saved(), ['a'])
  })
}

t.test('Mercurius: a query that is executed outside of a request runs as it is', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  await servers.Mercurius!(app, { errors: 'isolate' })
  await app.ready()
  t.match(messages(await app.graphql('{ fine }') as never), [/FST_PG_SCOPE_NO_SESSION|The request failed/])
  t.same((await app.db.scope(() => app.graphql('{ fine }'))).data, { fine: 1 })
})

t.test('wrong use stops the boot', async (t) => {
  const boot = async (build: (app: FastifyInstance) => Promise<unknown>): Promise<void> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await build(app)
  }
  const options = { code: 'FST_PG_SCOPE_OPTIONS' }
  await t.rejects(boot(async (app) => app.register(mercuriusTransactions)), { ...options, details: /Register mercurius/ })
  await t.rejects(boot(async (app) => {
    await app.register(mercurius, { schema: typeDefs })
    await app.register(mercuriusTransactions)
  }), { ...options, details: /Register fastify-pg-scope/ })
  await t.rejects(boot(async (app) => {
    await app.register(pgScope, { connectionString: postgres.connectionString })
    await app.register(mercurius, { schema: typeDefs })
    await app.register(mercuriusTransactions, { errors: 'commit' as never })
  }), { ...options, details: /`errors` must be 'rollback' or 'isolate'/ })
  t.throws(() => apolloTransactions(undefined as never), options)
})
