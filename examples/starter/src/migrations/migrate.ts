import type { Engine } from 'fastify-pg-scope'

export interface Migration {
  readonly name: string
  readonly sql: string
}

/** Any number will do, as long as nothing else in this database takes the same lock. */
const lock = 7_229_021_306

/** Whoever waited for the lock has to see what was committed meanwhile, whatever the server's default is. */
const readCommitted = { isolation: 'read committed', readOnly: false } as const

/**
 * Runs what has not run yet, all in one transaction: a failure leaves the schema as it was. Processes that start at
 * the same time wait for each other, and find the work done.
 *
 * @returns the names of those that ran
 */
export async function migrate (db: Engine, migrations: readonly Migration[]): Promise<string[]> {
  return await db.scope(async (session) => {
    // A lock of the transaction, not of the connection: it ends with COMMIT, and works behind PgBouncer as well.
    await session.query('select pg_advisory_xact_lock($1)', [lock])
    await session.query('create table if not exists migrations (name text primary key, at timestamptz not null default now())')
    const { rows } = await session.query<{ name: string }>('select name from migrations')
    const done = new Set(rows.map(({ name }) => name))
    const open = migrations.filter(({ name }) => !done.has(name))
    for (const { name, sql } of open) {
      await session.query(sql)
      await session.query('insert into migrations (name) values ($1)', [name])
    }
    return open.map(({ name }) => name)
  }, readCommitted)
}
