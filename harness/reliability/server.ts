import pg from 'pg'
import { startPostgres, type EmbeddedPostgres } from '../../lib/embedded/index.ts'
import { freePort } from '../pgbouncer/port.ts'

const observer = 'observer'

/** A server whose commits survive a crash, for one bad day after another. */
export interface Server extends EmbeddedPostgres {
  /** One statement on a connection of its own. */
  query<R extends pg.QueryResultRow = any> (text: string, values?: unknown[]): Promise<R[]>
  /** Ends the backends of others that are in one of these states, and says how many they were. */
  terminate (...states: string[]): Promise<number>
  /** Backends of others. */
  backends (): Promise<number>
  /** Backends of others that have a transaction open and run nothing. */
  idleInTransaction (): Promise<number>
}

/** As few as can be used up quickly. */
const maxConnections = 40

export async function startServer (): Promise<Server> {
  const postgres = await startPostgres({
    // In the range of outgoing connections, whoever tries to connect while the server is down could take its port.
    port: await freePort(),
    durable: true,
    settings: { max_connections: maxConnections, shared_buffers: '16MB', autovacuum: 'off' }
  })
  return observed(postgres)
}

/** A running server that can be looked at and disturbed. */
export function observed (postgres: EmbeddedPostgres): Server {
  const query: Server['query'] = async (text, values) => {
    const client = new pg.Client({ connectionString: postgres.connectionString, application_name: observer })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(text, values)).rows
    } finally {
      await client.end()
    }
  }
  const others = `backend_type = 'client backend' AND application_name <> '${observer}'`
  return {
    ...postgres,
    get pid () { return postgres.pid },
    query,
    terminate: async (...states) => (await query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${others} AND state = ANY ($1)`, [states])).length,
    backends: async () => (await query(`SELECT FROM pg_stat_activity WHERE ${others}`)).length,
    idleInTransaction: async () => (await query(`SELECT FROM pg_stat_activity WHERE ${others} AND state LIKE 'idle in transaction%'`)).length
  }
}
