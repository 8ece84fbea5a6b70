// The integration tests run against PostgreSQL itself by default, and unchanged in these variants: `npm run
// test:variants`.
import { compareVersions, type PgBouncerProgram } from './pgbouncer/programs.ts'
import { findForVariant } from './pgbouncer/selection.ts'
import { findPooler, type PoolerProgram } from './poolers/programs.ts'
import type { PoolOptions } from '../types/options.ts'

/**
 * What the plugin is led through: 'direct', the beginning of a PgBouncer's version, 'newest' for the newest PgBouncer,
 * or another pooler: 'odyssey', 'pgpool'.
 */
export const through = process.env.PG_SCOPE_TEST_THROUGH || 'direct'

/** Which pool strategy is used where a test asks for none. */
export const strategy = readStrategy(process.env.PG_SCOPE_TEST_STRATEGY || 'queue')

function readStrategy (name: string): NonNullable<PoolOptions['strategy']> {
  if (name !== 'queue' && name !== 'null') throw new Error(`PG_SCOPE_TEST_STRATEGY: expected queue or null, and ${name} came`)
  return name
}

/** The pooler of this variant, or null where connections are direct. */
export async function poolerOfVariant (): Promise<PgBouncerProgram | PoolerProgram | null> {
  if (through === 'direct') return null
  const program = await findPooler(through) ?? await findForVariant(through)
  if (program === undefined) throw new Error(`PG_SCOPE_TEST_THROUGH: ${through} is not installed; .ci/poolers prepares it`)
  return program
}

const pooler = await poolerOfVariant()

/** Behind pgpool-II each client has a server connection and its process id: the plugin finds nothing in between. */
const passesThrough = through === 'direct' || through === 'pgpool'

/** From this version on PgBouncer says what it is, and that it follows prepared statements. */
const announced = passesThrough || (pooler !== null && !('kind' in pooler) && compareVersions(pooler.version, '1.26') >= 0)

/** A pooler that does not identify itself: one batch at a time, and nothing prepared. */
const unidentified = pooler !== null && 'kind' in pooler && !passesThrough

/** What differs by the strategy. */
export function byStrategy<T> (values: Record<typeof strategy, T>): T {
  return values[strategy]
}

/** For a file that is about both strategies: in a variant its own. */
export const strategies = through === 'direct' && strategy === 'queue' ? ['queue', 'null'] as const : [strategy]

/** How many of `count` connections are idle and not closed after they were used. */
export function keptConnections (count: number): number {
  return byStrategy({ queue: count, null: 0 })
}

/**
 * How many backends `count` connections that the pool keeps show up as: those of PgBouncer are its own, and nothing
 * is kept without a queue.
 */
export function keptBackends (count = 0): number {
  return through === 'direct' && strategy === 'queue' ? count : 0
}

/** Without the settings that travel with BEGIN behind a pooler, and in the startup packet elsewhere. */
export function withoutSettings (executed: readonly string[]): string[] {
  return executed.filter((text) => !text.startsWith('SELECT set_config(') && text !== 'SELECT pg_backend_pid()' && !text.startsWith('SELECT cardinality(current_schemas(false))'))
}

/**
 * For a test that is about a direct connection: `onlyDirect(t, 'counts backends').test(name, fn)`. Behind a pooler
 * it is not registered, and the reason is printed.
 */
export function onlyDirect<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return through === 'direct' ? t : absent(`through ${through}`, reason)
}

/** For a test that is about connections that are kept. */
export function onlyQueue<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return strategy === 'queue' ? t : absent('with the null strategy', reason)
}

/** For a test of what happens to idle backends: with the null strategy there are only those of PgBouncer. */
export function onlyWithIdle<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return through === 'direct' ? onlyQueue(t, reason) : t
}

/** For a test that sees that a named statement is prepared once for each connection, behind a pooler too. */
export function onlyPrepared<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return onlyQueue(onlyAnnounced(t, reason), reason)
}

/**
 * For a test of what is done only where the server is known to be behind nothing, or behind a PgBouncer that says so.
 */
export function onlyAnnounced<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return announced ? t : absent(`through ${through}`, reason)
}

/** For a test that counts batches which are sent while others are unanswered. */
export function onlyPipelined<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return unidentified ? absent(`through ${through}`, reason) : t
}

function absent<T extends { test: unknown }> (where: string, reason: string): Pick<T, 'test'> {
  const test = async (name: string): Promise<void> => { console.log(`# not run ${where} (${reason}): ${name}`) }
  return { test } as unknown as Pick<T, 'test'>
}
