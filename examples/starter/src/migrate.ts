import { basename, join, relative } from 'node:path'
import type { Engine } from 'fastify-pg-scope'
import Postgrator from 'postgrator'

const migrations = join(import.meta.dirname, '../migrations')

/** Any number will do, as long as nothing else in this database takes the same lock. */
const lock = 7_229_021_306

/** A process that waited for the lock must see what was committed meanwhile, whatever the server's default is. */
const readCommitted = { isolation: 'read committed', readOnly: false } as const

/**
 * Runs the migrations that have not run yet, all in one transaction: a failure leaves the schema as it was. Processes
 * that start at the same time wait for each other, and find the work done.
 *
 * @returns the names of those that ran
 */
export async function migrate (db: Engine, folder = migrations): Promise<string[]> {
  return await db.scope(async (session) => {
    // The lock belongs to the transaction, not to the connection: it ends with COMMIT, and works behind PgBouncer.
    await session.query('select pg_advisory_xact_lock($1)', [lock])
    const postgrator = new Postgrator({
      driver: 'pg',
      schemaTable: 'migrations',
      // A relative pattern, because the folders above may have names that are patterns themselves.
      migrationPattern: `${relative('', folder) || '.'}/*.sql`,
      execQuery: async (query) => await session.query(query),
      execSqlScript: async (script) => { await session.query(script) }
    })
    // An older version of the app may start on a newer schema. Postgrator would go back to its own.
    if (await postgrator.getDatabaseVersion() > await postgrator.getMaxVersion()) return []
    const applied = await postgrator.migrate()
    return applied.map(({ filename }) => basename(filename, '.sql'))
  }, readCommitted)
}
