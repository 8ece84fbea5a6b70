import { readFile } from 'node:fs/promises'
import { findPgBouncers } from '../../harness/pgbouncer.ts'
import type { TestPostgres } from '../../harness/postgres.ts'
import { findPgbench } from './pgbench.ts'
import { findPython } from './python.ts'

const packages = ['fastify', 'pg', '@fastify/postgres', 'postgres', 'kysely', 'drizzle-orm', 'autocannon']

/** What the figures were measured with. */
export async function versionsOf (postgres: TestPostgres): Promise<string[]> {
  const server = (await postgres.query('SHOW server_version')).rows[0].server_version
  const programs = await findPgBouncers()
  const libraries = await Promise.all(packages.map(async (name) => {
    const { version } = JSON.parse(await readFile(`node_modules/${name}/package.json`, 'utf8'))
    return `${name} ${version}`
  }))
  const others = [(await findPython())?.versions, await findPgbench()]
  return [
    `Node.js ${process.versions.node}`,
    `PostgreSQL ${server}`,
    ...programs.map(({ version }) => `PgBouncer ${version}`),
    ...libraries,
    ...others.filter((version) => typeof version === 'string')
  ]
}
