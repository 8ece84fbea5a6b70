// The plugin as the integration tests register it: with the strategy of the variant that they run in.
import { strategy } from './variant.ts'
import { pgScope as plugin, type PgScopeOptions } from '../../lib/index.ts'

export * from '../../lib/index.ts'

const inVariant: typeof plugin = (app, options: PgScopeOptions) => plugin(app, { ...options, pool: { strategy, ...options.pool } })
// What fastify-plugin wrote on it: its name, and that it decorates the app that it is registered on.
for (const key of Object.getOwnPropertySymbols(plugin)) Object.defineProperty(inVariant, key, Object.getOwnPropertyDescriptor(plugin, key)!)

export const pgScope = strategy === 'queue' ? plugin : inVariant
export default pgScope
