import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import '../types/fastify.ts'
import type { PgScopeOptions } from '../types/options.ts'
import { PgEngine } from './engine/engine.ts'
import { logSlowWork } from './engine/slow-log.ts'
import { withEnvironment } from './config/environment.ts'
import { exposeDetails, pgScopeError } from './errors.ts'
import { checkPluginOptions, resolveOptions } from './config/options.ts'
import { publishOptions } from './options-channel.ts'
import { checkDriver } from './postgres/driver.ts'
import { followRequests } from './request/lifecycle.ts'

async function plugin (app: FastifyInstance, given: PgScopeOptions): Promise<void> {
  await start(app, given).catch((error) => { throw exposeDetails(error) })
}

/** The steps of the startup: driver, options, engine, decorators, hooks. */
async function start (app: FastifyInstance, given: PgScopeOptions): Promise<void> {
  checkDriver()
  checkPluginOptions(given)
  const complete = await withEnvironment(app, given)
  checkPluginOptions(complete)
  const options = resolveOptions(complete)
  rejectTakenName(app, options.decorator)
  publishOptions(options)
  const engine = new PgEngine(options, app.log)
  await engine.start()
  logSlowWork(app, engine, options)
  app.decorate(options.decorator as 'db', engine)
  followRequests(app, engine, options)
}

function rejectTakenName (app: FastifyInstance, name: string): void {
  if (!app.hasDecorator(name) && !app.hasRequestDecorator(name)) return
  throw pgScopeError('FST_PG_SCOPE_DECORATOR_TAKEN', `The decorator \`${name}\` already exists on this app. ` +
    'One engine per database is enough. For a second database, choose another name: { decorator: \'reporting\' }.')
}

/**
 * The plugin. Decorates the app with an engine (`app.db`) and each request with a session (`request.db`).
 *
 * @throws FST_PG_SCOPE_OPTIONS, FST_PG_SCOPE_DRIVER, FST_PG_SCOPE_DECORATOR_TAKEN, FST_PG_SCOPE_UNREACHABLE,
 * FST_PG_SCOPE_LOGIN_REFUSED at startup
 */
const pgScope: FastifyPluginAsync<PgScopeOptions> = fp(plugin, { fastify: '5.x || 6.x', name: 'fastify-pg-scope' })

export default pgScope
export { pgScope }
export { isPgScopeError, type PgScopeError, type PgScopeErrorCode } from './errors.ts'
export type * from '../types/index.ts'
