import Fastify, { type FastifyContextConfig, type FastifyPluginAsync } from 'fastify'
import pgScope, { pgScope as named, type Engine, type Notice, type PgScopeOptions, type HostStats, type ReplicaStats, type RouteOptions, type Session } from '../../lib/index.ts'
import { expect, typeOf, type Equal } from './expect.ts'

const app = Fastify()

// The plugin, its default and its named export
typeOf(pgScope).is<FastifyPluginAsync<PgScopeOptions>>()
typeOf(named).is<typeof pgScope>()
await app.register(pgScope)
await app.register(pgScope, {})
await app.register(pgScope, { connectionString: 'postgres://127.0.0.1/shop' })
await app.register(pgScope, {
  host: '127.0.0.1',
  port: 5432,
  password: async () => 'secret',
  ssl: { rejectUnauthorized: true },
  applicationName: 'shop',
  pool: { strategy: 'queue', max: 20, min: 1, acquireTimeout: 1000, maxWaiting: 50, idleTimeout: 0, maxLifetime: 0, maxUses: 1000, prePing: true },
  isolation: 'serializable',
  statementTimeout: 5000,
  settings: request => ({ 'app.user': request.headers['x-user'] as string, 'app.level': 3, 'app.debug': false }),
  role: () => 'shop_user',
  commitIf: (request, reply) => request.method !== 'GET' && reply.statusCode < 500,
  streamTimeout: 60000,
  sessionState: 'keep',
  closeTimeout: 1000,
  onNotice: (notice, route) => {
    typeOf(notice).is<Notice>()
    typeOf(notice.severity).is<string | undefined>()
    typeOf(route).is<string | undefined>()
  },
  startupCheck: false
})
// What comes from process.env may be undefined
await app.register(pgScope, { connectionString: process.env.DATABASE_URL, host: process.env.PGHOST })

// Options that are unknown or would not do
// @ts-expect-error a misspelt option
await app.register(pgScope, { conectionString: 'postgres://127.0.0.1/shop' })
// @ts-expect-error the message of a notice may be missing
await app.register(pgScope, { onNotice: ({ message }) => message.length })
// @ts-expect-error a misspelt option of the pool
await app.register(pgScope, { pool: { maximum: 5 } })
// @ts-expect-error a number as a text
await app.register(pgScope, { pool: { max: '5' } })
// @ts-expect-error no such way to treat what a session leaves behind
await app.register(pgScope, { sessionState: 'discard' })
// @ts-expect-error no such strategy
await app.register(pgScope, { pool: { strategy: 'stack' } })
// @ts-expect-error a duration with a unit
await app.register(pgScope, { statementTimeout: '5s' })
await app.register(pgScope, { isolation: 'read uncommitted' })
// @ts-expect-error no such level
await app.register(pgScope, { isolation: 'snapshot' })
await app.register(pgScope, { resolveCommits: true })
await app.register(pgScope, { slowStatementThreshold: 200, slowTransactionThreshold: 1000, serverTiming: true })
await app.register(pgScope, { traceContext: true })
await app.register(pgScope, { traceContext: { setting: 'app.trace', applicationName: false, of: ({ headers }) => String(headers.traceparent) } })
// @ts-expect-error a promise is no trace
await app.register(pgScope, { traceContext: { of: async () => '' } })
await app.register(pgScope, { replicas: ['postgres://127.0.0.1/'], maxLag: 5000, replica: false, fallback: false })
await app.register(pgScope, { replicas: () => ['postgres://127.0.0.1/'] })
await app.register(pgScope, { host: 'a,b', port: '5432,5433', targetSessionAttrs: 'prefer-standby', loadBalanceHosts: 'random' })
// @ts-expect-error no such server
await app.register(pgScope, { targetSessionAttrs: 'master' })
await app.register(pgScope, { replicas: async () => ['postgres://127.0.0.1/'] as const })
await app.register(pgScope, { replicas: [], readYourWrites: { secret: process.env.SECRET, cookie: 'lsn' }, waitForReplica: 0 })
await app.db.scope(async (session) => {
  typeOf(session.writtenAt).is<string | null>()
  await app.db.scope(() => {}, { readOnly: true, notBefore: session.writtenAt })
})
// @ts-expect-error one URL is a list of one
await app.register(pgScope, { replicas: 'postgres://127.0.0.1/' })
typeOf(app.db.stats().replicas).is<ReplicaStats[]>()
typeOf(app.db.stats().hosts).is<HostStats[]>()
app.get('/replica', { config: { db: { readOnly: true, replica: true, fallback: false } } }, () => {})
// @ts-expect-error how often?
await app.register(pgScope, { retry: true })
// @ts-expect-error no such moment
await app.register(pgScope, { commitOn: 'request' })
await app.register(pgScope, { commitIf: async () => true, settings: async () => ({ 'app.tenant': 'a' }), role: async () => 'reader' })
// @ts-expect-error a decision is true or false
await app.register(pgScope, { commitIf: async () => 'yes' })
// @ts-expect-error a missing header is no setting
await app.register(pgScope, { settings: async (request) => ({ 'app.tenant': request.headers.tenant }) })
// @ts-expect-error nor a role
await app.register(pgScope, { role: (request) => request.headers.role?.at(0) })
// @ts-expect-error a setting has one value
await app.register(pgScope, { settings: { 'app.user': { id: 1 } } })
// @ts-expect-error null is not a way to leave something out
await app.register(pgScope, { connectionString: null })

// The decorators
typeOf(app.db).is<Engine>()
app.get('/', async request => {
  typeOf(request.db).is<Session>()
  // @ts-expect-error a request's session is ended by the plugin
  await request.db.close()
  // @ts-expect-error the engine is the app's
  request.db.stats()
})

// A route's options
app.get('/report', { config: { db: { readOnly: true, isolation: 'repeatable read', statementTimeout: 30_000 } } }, async request => {
  const own: RouteOptions | undefined = request.routeOptions.config.db
  return own?.readOnly
})
app.get('/lookup', { config: { db: { mode: 'autocommit', settings: { 'app.user': 'x' }, role: 'reader' } } }, async () => {})
app.post('/work', { config: { db: { onAbort: 'commit', commitOn: 'response', commitIf: (_request, reply) => reply.statusCode !== 418 } } }, async () => {})
expect<Equal<FastifyContextConfig['db'], RouteOptions | undefined>>()
app.post('/retried', { config: { db: { retry: 3 } } }, async (request) => { typeOf(request.db.attempt).is<number>() })
app.post('/retried', { config: { db: { retry: { attempts: 5, minDelay: 10, maxDelay: 100 } } } }, async () => {})
app.post('/once', { config: { db: { retry: false } } }, async () => {})
app.post('/idempotent', { config: { db: { idempotency: { required: true, keyOf: async (request) => request.ip, ttl: 1000 } } } }, async () => {})
// @ts-expect-error only a route is idempotent
await app.register(pgScope, { idempotency: true })
// @ts-expect-error no such mode
app.get('/a', { config: { db: { mode: 'auto' } } }, async () => {})
// @ts-expect-error not a boolean
app.get('/b', { config: { db: { readOnly: 'yes' } } }, async () => {})
// @ts-expect-error a duration with a unit
app.route({ method: 'GET', url: '/c', config: { db: { lockTimeout: '1s' } }, handler: async () => {} })

// Fastify infers the type of a route's config from what is written there, so an unknown key passes and stops the boot.
// `satisfies` finds it while compiling:
app.get('/d', { config: { db: { readOnly: true } satisfies RouteOptions } }, async () => {})
// @ts-expect-error unknown
app.get('/e', { config: { db: { readonly: true } satisfies RouteOptions } }, async () => {})
// @ts-expect-error the pool is the app's, not a route's
app.get('/f', { config: { db: { pool: { max: 1 } } satisfies RouteOptions } }, async () => {})
// @ts-expect-error not a switch
app.get('/g', { config: { db: false satisfies RouteOptions } }, async () => {})
