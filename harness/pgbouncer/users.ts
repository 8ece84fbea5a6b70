import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { PgBouncerServer } from '../pgbouncer.ts'

export interface Admin {
  user: string
  password: string
}

/**
 * May use the admin database, and is no role of PostgreSQL: the application's own user has the rights that any other
 * has.
 */
export function makeAdmin (): Admin {
  return { user: 'pgbouncer_admin', password: randomBytes(18).toString('base64url') }
}

/** The auth_file: the admin, and every role with the secret that PostgreSQL has of it. */
export async function userList (server: PgBouncerServer, admin: Admin): Promise<string> {
  const { host, port, user, password, database } = server
  const client = new pg.Client({ host, port, user, password, database, application_name: 'test admin', ssl: false })
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows } = await client.query<{ rolname: string, rolpassword: string }>('SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL')
    const pairs = [[admin.user, admin.password], ...rows.map(({ rolname, rolpassword }) => [rolname, rolpassword])]
    return pairs.map(pair => `${pair.map(text => `"${text?.replaceAll('"', '""')}"`).join(' ')}\n`).join('')
  } finally {
    await client.end()
  }
}

/**
 * Runs one command on the admin database, which knows the simple protocol only. On a connection of its own: a PAUSE
 * may wait.
 */
export async function runAdmin (
  address: { host: string, port: number }, admin: Admin, command: string
): Promise<pg.QueryResultRow[]> {
  const client = new pg.Client({ ...address, ...admin, database: 'pgbouncer', application_name: 'test admin', ssl: false })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(command)).rows
  } finally {
    await client.end()
  }
}
