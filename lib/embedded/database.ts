import pg from 'pg'
import { pgScopeError } from '../errors.ts'
import type { Login } from './data-folder.ts'

/** Logs in once, so that a wrong password shows at the start, and makes the database if it does not exist. */
export async function ensureDatabase (
  address: { host: string, port: number }, login: Login, database: string
): Promise<void> {
  const client = new pg.Client({
    ...address, ...login, database: 'postgres', connectionTimeoutMillis: 10_000, ssl: false
  })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [database])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(database)}`)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `The server runs, but '${login.user}' could not reach the database '${database}': ${message}`,
      error
    )
  } finally {
    await client.end().catch(() => {})
  }
}
