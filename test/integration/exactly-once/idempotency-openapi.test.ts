// The header of idempotent routes in OpenAPI, by @fastify/swagger.
import swagger from '@fastify/swagger'
import Fastify, { type FastifyInstance, type FastifySchema } from 'fastify'
import t, { type Test } from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { idempotencyTable } from '../../../lib/idempotency/index.ts'
import type { RouteOptions } from '../../../types/options.ts'

const postgres = await startTestPostgres(t)
await postgres.query(idempotencyTable)

async function openApp (t: Test, order: 'before' | 'after' = 'before'): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  const database = (): unknown => app.register(pgScope, { connectionString: postgres.connectionString })
  if (order === 'after') await database()
  await app.register(swagger, { openapi: { info: { title: 'bank', version: '1' } } })
  if (order === 'before') await database()
  return app
}

function post (app: FastifyInstance, path: string, idempotency: RouteOptions['idempotency'], schema?: FastifySchema): void {
  app.post(path, { config: { db: { idempotency } }, ...(schema && { schema }) }, async (request) => {
    await request.db.query('SELECT 1')
    return { ok: true }
  })
}

interface Described {
  parameters?: { name: string, in: string, required: boolean, schema: unknown }[]
  responses: Record<string, { description: string }>
}

/** What OpenAPI says of a POST route. */
function described (app: FastifyInstance, path: string): Described {
  return (app.swagger() as { paths: Record<string, { post: Described }> }).paths[path]!.post
}

for (const order of ['before', 'after'] as const) {
  t.test(`the header is shown as the route says, with @fastify/swagger registered ${order} this plugin`, async (t) => {
    const app = await openApp(t, order)
    post(app, '/optional', true)
    post(app, '/required', { required: true, header: 'X-Key' })
    post(app, '/none', false)
    await app.register(async (child) => { post(child, '/nested', { required: true }) })
    await app.ready()
    const header = (path: string): unknown => {
      return described(app, path).parameters?.map(({ in: place, name, required }) => [place, name, required])
    }
    t.same(header('/optional'), [['header', 'idempotency-key', false]])
    t.same(header('/required'), [['header', 'x-key', true]])
    t.same(header('/nested'), [['header', 'idempotency-key', true]])
    t.equal(header('/none'), undefined)
    t.same(Object.keys(described(app, '/optional').responses), ['200', '400', '409', '422'])
    t.same(Object.keys(described(app, '/none').responses), ['200'])
    t.match(described(app, '/optional').responses[409], { description: /in progress/ })
  })
}

t.test('it is added to what the route describes, and what describes it already is left alone', async (t) => {
  const app = await openApp(t)
  const headers = { type: 'object', properties: { 'x-user': { type: 'string' } }, required: ['x-user'] }
  const response = { 201: { type: 'object', description: 'made', properties: { ok: { type: 'boolean' } } }, 409: { type: 'object', description: 'mine' } }
  const body = { type: 'object', properties: { amount: { type: 'integer' } } }
  post(app, '/more', { required: true }, { headers, response, body })
  post(app, '/own', true, { headers: { type: 'object', properties: { 'Idempotency-Key': { type: 'string', format: 'uuid' } } } })
  post(app, '/group', true, { response: { '4xx': { type: 'object', description: 'mine' } } })
  await app.ready()
  const { parameters, responses } = described(app, '/more')
  t.same(parameters!.map(({ name, required }) => [name, required]), [['x-user', true], ['idempotency-key', true]])
  t.match(responses, { 201: { description: 'made' }, 400: { description: /malformed/ }, 409: { description: 'mine' }, 422: {} })
  t.match(described(app, '/own').parameters, [{ name: 'Idempotency-Key', schema: { format: 'uuid' } }])
  t.same(Object.keys(described(app, '/group').responses), ['4XX'])
  t.same(headers.required, ['x-user'], 'the schema of the user is unchanged')
})

t.test('the header is described, not validated: the error of a missing key is the plugin\'s', async (t) => {
  const app = await openApp(t)
  post(app, '/', { required: true }, { response: { 200: { type: 'object', properties: { ok: { type: 'boolean' } } } } })
  await app.ready()
  t.match((await app.inject({ method: 'POST', url: '/' })).json(), { statusCode: 400, code: 'FST_PG_SCOPE_IDEMPOTENCY_KEY' })
  t.match((await app.inject({ method: 'POST', url: '/', headers: { 'idempotency-key': 'k' } })).json(), { ok: true })
})

t.test('routes whose schemas are of another kind are left alone', async (t) => {
  const app = await openApp(t)
  class Shape { readonly shape = {} }
  app.setValidatorCompiler(() => () => true)
  post(app, '/', true)
  app.post('/own', { config: { db: { idempotency: true } }, schema: { headers: new Shape() as object }, validatorCompiler: () => () => true }, async () => 'ok')
  await app.ready()
  t.equal(described(app, '/').parameters, undefined)
})
