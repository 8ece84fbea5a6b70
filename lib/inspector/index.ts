import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Engine, Pooler, Stats } from '../../types/engine.ts'
import { checkOptions, expected, isDuration, isFunction, isText, type Rules } from '../config/option-rules.ts'
import { exposeDetails, pgScopeError } from '../errors.ts'
import { InFlight, type ShownFailure, type ShownSession } from './in-flight.ts'
import { contentSecurityPolicy, page } from './page.ts'
import { PgBouncerPools, type ShownPools } from './pgbouncer-pools.ts'

export interface InspectorOptions {
  /** The path of the page, such as '/inspector', as for every plugin of Fastify. */
  prefix?: string
  /** The decorator of the engine. Default 'db'. */
  decorator?: string
  /**
   * Whether a request may see the page: true, or a promise of it. Anything else is answered with 403, unless the guard
   * has sent a response. Needed where NODE_ENV is 'production'.
   */
  guard?: (request: FastifyRequest, reply: FastifyReply) => boolean | Promise<boolean>
  /** A connection that is held longer is listed. Milliseconds, default 10000. */
  heldFor?: number
  /** PgBouncer's console, for SHOW POOLS: `postgres://stats:password@127.0.0.1:6432/pgbouncer`. Default: not shown. */
  pgbouncer?: string
}

/** What the page shows, as `GET <prefix>/state` answers it, without values of parameters and messages of errors. */
export interface InspectorState {
  /** ISO 8601. */
  time: string
  /** Where it connects to is known once it was used. */
  engine: { decorator: string, host?: string, port?: number, database?: string, user?: string }
  pooler: Pooler
  stats: Stats
  sessions: ShownSession[]
  waits: { route: string | null, request: string | null, age: number }[]
  held: { route: string | null, request: string | null, age: number }[]
  failures: readonly ShownFailure[]
  pgbouncer: ShownPools | null
}

const rules: Rules = {
  prefix: expected('a string', (value) => typeof value === 'string'),
  logLevel: () => null,
  logSerializers: () => null,
  decorator: isText,
  guard: isFunction,
  heldFor: isDuration,
  pgbouncer: isText
}

/**
 * Serves a live page about an engine. To be registered after the plugin.
 *
 * @throws FST_PG_SCOPE_OPTIONS if the app has no such engine, or in production without a guard
 */
export const inspector: FastifyPluginAsync<InspectorOptions> = async (app, options) => {
  try {
    checkOptions(options, rules, '')
    const { decorator = 'db', guard, heldFor = 10000, pgbouncer } = options
    const db = (app as unknown as Record<string, Engine | undefined>)[decorator]
    if (typeof db?.stats !== 'function') {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', `The app has no engine \`${decorator}\`: await the registration of ` +
        'fastify-pg-scope before that of the inspector, and pass its `decorator`.')
    }
    if (guard === undefined && process.env.NODE_ENV === 'production') {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'The inspector shows statements and routes to everybody who can ' +
        'reach it: in production (NODE_ENV) it needs a `guard`, a function that returns true for those who may.')
    }
    const inFlight = new InFlight(db)
    const pools = pgbouncer === undefined ? null : new PgBouncerPools(pgbouncer)
    app.addHook('onClose', async () => inFlight.close())
    app.addHook('onRequest', async (request, reply) => {
      reply.headers({
        'cache-control': 'no-store',
        'content-security-policy': contentSecurityPolicy,
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff'
      })
      if (guard === undefined || await guard(request, reply) === true || reply.sent) return
      return reply.code(403).send({ statusCode: 403, error: 'Forbidden', message: 'The inspector is guarded.' })
    })
    app.get('/', async (_request, reply) => reply.type('text/html; charset=utf-8').send(page))
    app.get('/state', async (): Promise<InspectorState> => ({
      time: new Date().toISOString(),
      engine: { decorator, ...inFlight.target },
      pooler: db.pooler,
      stats: db.stats(),
      sessions: inFlight.sessions(),
      waits: inFlight.waits(),
      held: inFlight.held(heldFor),
      failures: inFlight.failures(),
      pgbouncer: pools === null ? null : await pools.read()
    }))
  } catch (error) {
    throw exposeDetails(error)
  }
}

export default inspector
