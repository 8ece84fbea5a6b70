import type { FastifyInstance, RouteOptions as FastifyRoute } from 'fastify'
import type { IdempotencyPolicy } from '../config/idempotency-policy.ts'
import { isPlainObject } from '../kind-of.ts'

type Schema = Record<string, unknown>

/** What a client may get because of its key. */
const responses = {
  400: 'The idempotency key is missing or malformed',
  409: 'The first request with the same idempotency key is still in progress',
  422: 'The idempotency key was used for another request'
}

/** The answer of Fastify to an error. */
const error = {
  type: 'object',
  properties: {
    statusCode: { type: 'integer' },
    code: { type: 'string' },
    error: { type: 'string' },
    message: { type: 'string' }
  }
}

/**
 * Adds the header with the key, and its errors, to the schemas of routes, which @fastify/swagger turns into OpenAPI.
 * They are added when Fastify has compiled its validators: the header is described, but not validated a second time.
 */
export class IdempotencyOpenApi {
  readonly #routes: [FastifyRoute, IdempotencyPolicy][] = []

  constructor (app: FastifyInstance) {
    app.addHook('onReady', (done) => {
      for (const [route, policy] of this.#routes.splice(0)) describe(route, policy)
      done()
    })
  }

  /** @param context what the route belongs to. With validators of its own its schemas may be no JSON Schema. */
  add (route: FastifyRoute, context: FastifyInstance, policy: IdempotencyPolicy): void {
    if ((route.validatorCompiler ?? context.validatorCompiler) === undefined) this.#routes.push([route, policy])
  }
}

function describe (route: FastifyRoute, policy: IdempotencyPolicy): void {
  const headers = withHeader(route.schema?.headers, policy)
  if (headers !== null) route.schema = { ...route.schema, headers, response: withErrors(route.schema?.response) }
}

/** @returns null if the headers are no plain JSON Schema, or have this one */
function withHeader (headers: unknown, { header, required, ttl }: IdempotencyPolicy): Schema | null {
  if (headers !== undefined && (!isPlainObject(headers) || !isPlainObject(headers.properties ?? {}))) return null
  const { properties, required: others, ...rest } = (headers ?? { type: 'object' }) as Schema
  const known = { ...properties as Schema }
  if (Object.keys(known).some((name) => name.toLowerCase() === header)) return null
  known[header] = {
    type: 'string',
    minLength: 1,
    description: 'A new key for each request, such as a UUID. A request that is repeated with its key is done once, ' +
      `and gets the first answer for ${ttl} ms.`
  }
  const names = [...(Array.isArray(others) ? others : []), ...(required ? [header] : [])]
  return { ...rest, properties: known, ...(names.length > 0 && { required: names }) }
}

function withErrors (response: unknown): Schema {
  const known = isPlainObject(response) ? response : { 200: { description: 'Default Response', type: 'null' } }
  const isKnown = (status: string): boolean => [status, '4xx', '4XX', 'default'].some((name) => name in known)
  const errors = Object.entries(responses).filter(([status]) => !isKnown(status))
  return { ...known, ...Object.fromEntries(errors.map(([status, description]) => [status, { ...error, description }])) }
}
