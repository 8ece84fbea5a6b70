import pg from 'pg'

/** How many connections can be had, and by which setting. */
export interface Limit {
  connections: number
  setting: string
  /** Why it is not the limit that matters, or nothing. */
  remark?: string
}

/** How long one answer may take. Milliseconds. */
const connectionTimeoutMillis = 5000

/** Asks PgBouncer, where DATABASE_URL leads to one that lets this user ask (stats_users), and PostgreSQL otherwise. */
export async function readLimit (connectionString: string): Promise<Limit> {
  const pooler = await readPooler(connectionString)
  if (pooler.limit !== undefined) return pooler.limit
  const { rows: [row] } = await ask(connectionString, `
    select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as connections`)
  const limit = { connections: Number(row.connections), setting: 'max_connections of PostgreSQL' }
  return pooler.there ? { ...limit, remark: 'PgBouncer does not tell this user its max_client_conn: put the user into stats_users' } : limit
}

async function readPooler (connectionString: string): Promise<{ there: boolean, limit?: Limit }> {
  const admin = new URL(connectionString)
  admin.pathname = '/pgbouncer'
  try {
    const { rows } = await ask(admin.href, 'SHOW CONFIG')
    const connections = Number(rows.find(({ key }) => key === 'max_client_conn')?.value)
    return { there: true, limit: { connections, setting: 'max_client_conn of PgBouncer' } }
  } catch (error) {
    // PostgreSQL has no such database (3D000); PgBouncer has it, and lets only some in.
    return { there: (error as { code?: string }).code === '08P01' }
  }
}

async function ask (connectionString: string, text: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis, application_name: 'pg-scope-cluster limits' })
  client.on('error', () => {})
  try {
    await client.connect()
    return await client.query(text)
  } finally {
    await client.end()
  }
}

/** One process more than usual runs while another one is replaced. */
export function advice (workers: number, max: number, { connections, setting, remark }: Limit): string {
  const most = (workers + 1) * max
  const sum = `${workers} processes × pool.max ${max} = ${workers * max} connections, ${most} while one is replaced; ${setting}: ${connections}.`
  const warning = most > connections ? `\nWARNING: that is more than there are. Requests will be refused with 503 under load: lower POOL_MAX or WORKERS, or raise ${setting}.` : ''
  return `${sum}${remark === undefined ? '' : ` (${remark}.)`}${warning}`
}
