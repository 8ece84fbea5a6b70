// The integration tests run against PostgreSQL itself by default, and unchanged in these variants: `npm run test:variants`.
import { findPgBouncers, type PgBouncerProgram } from './pgbouncer/programs.ts'
import type { PoolOptions } from '../../types/options.ts'

/** What the plugin is led through: 'direct', or the beginning of a PgBouncer's version, or 'newest'. */
export const through = process.env.PG_SCOPE_TEST_THROUGH || 'direct'

/** Which pool strategy is used where a test asks for none. */
export const strategy = readStrategy(process.env.PG_SCOPE_TEST_STRATEGY || 'queue')

function readStrategy (name: string): NonNullable<PoolOptions['strategy']> {
  if (name !== 'queue' && name !== 'null') throw new Error(`PG_SCOPE_TEST_STRATEGY: expected queue or null, and ${name} came`)
  return name
}

/** The PgBouncer of this variant, or null where connections are direct. */
export async function poolerOfVariant (): Promise<PgBouncerProgram | null> {
  if (through === 'direct') return null
  const installed = await findPgBouncers()
  const program = through === 'newest' ? installed.at(-1) : installed.find(({ version }) => `${version}.`.startsWith(`${through}.`))
  if (program === undefined) throw new Error(`PG_SCOPE_TEST_THROUGH: PgBouncer ${through} is not installed; .ci/pgbouncer prepares it`)
  return program
}

/**
 * For a test that is about a direct connection: `onlyDirect(t, 'counts backends').test(name, fn)`. Behind a pooler it is not
 * registered, and the reason is printed.
 */
export function onlyDirect<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return through === 'direct' ? t : absent(`through PgBouncer ${through}`, reason)
}

/** For a test that is about connections that are kept. */
export function onlyQueue<T extends { test: unknown }> (t: T, reason: string): Pick<T, 'test'> {
  return strategy === 'queue' ? t : absent('with the null strategy', reason)
}

function absent<T extends { test: unknown }> (where: string, reason: string): Pick<T, 'test'> {
  const test = async (name: string): Promise<void> => { console.log(`# not run ${where} (${reason}): ${name}`) }
  return { test } as unknown as Pick<T, 'test'>
}
