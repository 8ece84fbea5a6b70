// The plugin as the integration tests register it: with the strategy of the variant that they run in, and with time
// for a boot, and for a connection, on a machine that is busy with other tests.
import { strategy } from './variant.ts'
import { pgScope as plugin, type PgScopeOptions } from '../lib/index.ts'

export * from '../lib/index.ts'

/** Where a test sets none of its own. Milliseconds. */
export const acquireTimeout = 30000

export const pgScope: typeof plugin = (app, options: PgScopeOptions) => plugin(app, {
  ...options, pool: { strategy, acquireTimeout, ...options.pool }
})
// What fastify-plugin wrote on it: its name, and that it decorates the app that it is registered on.
for (const key of Object.getOwnPropertySymbols(
  plugin
)) Object.defineProperty(pgScope, key, Object.getOwnPropertyDescriptor(plugin, key)!)

export default pgScope
