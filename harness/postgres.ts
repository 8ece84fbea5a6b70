import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { adminName, queryAsAdmin } from './admin.ts'
import { copyTemplate } from './cluster-template.ts'
import { findPostgres } from './lane.ts'
import { startPgBouncer } from './pgbouncer.ts'
import { startPooler } from './pooler.ts'
import { poolerOfVariant } from './variant.ts'
import { launch } from '../lib/embedded/launch.ts'
import { checkEmbeddedOptions } from '../lib/embedded/options.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../lib/embedded/index.ts'

/** As much of a tap test as is needed here. */
interface TeardownTest {
  teardown (callback: () => unknown): unknown
}

export interface ActivityRow {
  pid: number
  datname: string
  usename: string
  application_name: string
  state: string | null
  query: string
  wait_event_type: string | null
  backend_xid: string | null
}

/**
 * In a variant with a pooler (see variant.ts) the address leads through it; everything else is about the server
 * itself.
 */
export interface TestPostgres extends EmbeddedPostgres {
  /** Runs one statement as the superuser, in a session of its own: it works after a restart as well. */
  query<Row extends pg.QueryResultRow = any> (
    text: string, values?: unknown[], connectionString?: string
  ): Promise<pg.QueryResult<Row>>
  /**
   * The clients' backends in all databases, without the helper's own, nor those that lie idle in PgBouncer's own
   * pool.
   */
  activity (): Promise<ActivityRow[]>
  /** Makes an empty database; the result leads to it. */
  createDatabase (): Promise<string>
}

/**
 * Starts a server for one test or one file, and stops it when `t` ends.
 *
 * tap runs the teardowns of a test in reverse order, and waits for each: start the server before anything that uses
 * it, on the same `t` or on one that contains it, and it is stopped last. A teardown that throws makes tap skip the
 * earlier ones; the server then ends with the process.
 */
export async function startTestPostgres (t: TeardownTest, options: EmbeddedOptions = {}): Promise<TestPostgres> {
  const checked = checkEmbeddedOptions({
    ...options,
    settings: { max_connections: 200, shared_buffers: '16MB', autovacuum: 'off', ...options.settings }
  })
  const copied = [options.user, options.password, options.dataFolder].every((own) => own === undefined) &&
    !checked.durable
  const postgres = await (copied ? launch(checked, findPostgres, copyTemplate) : launch(checked, findPostgres))
  // Also if the pooler does not start.
  t.teardown(() => postgres.stop())
  const program = await poolerOfVariant()
  const front = program === null
    ? postgres
    : 'kind' in program ? await startPooler(t, postgres, program) : await startPgBouncer(t, postgres, { program })
  const server = withQueries(postgres, front)
  t.teardown(() => server.stop())
  return server
}

type Address = Pick<EmbeddedPostgres, 'connectionString' | 'host' | 'port'>

/** @param front what the plugin is led to: the server, or a PgBouncer in front of it */
function withQueries (postgres: EmbeddedPostgres, front: Address): TestPostgres {
  let databases = 0
  const pooled = front !== postgres
  const direct = (connectionString: string): string => pooled ? connectionString.replace(`:${front.port}/`, `:${postgres.port}/`) : connectionString
  const query: TestPostgres['query'] = async (text, values, connectionString = postgres.connectionString) => {
    return await queryAsAdmin(direct(connectionString), text, values)
  }
  return {
    ...postgres,
    // A spread copies the value of today; the process changes with each restart.
    get pid () { return postgres.pid },
    connectionString: front.connectionString,
    host: front.host,
    port: front.port,
    stop: () => postgres.stop(),
    restart: async (mode) => {
      await postgres.restart(mode)
      // PgBouncer 1.18 counts an idle server connection that is ended as a failed login, and waits for
      // server_login_retry.
      if (pooled) await sleep(1100)
    },
    query,
    activity: async () => (await query<ActivityRow>(
      `SELECT pid, datname, usename, application_name, state, query, wait_event_type, backend_xid::text
         FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name <> $1 AND NOT ($2 AND state = 'idle')
        ORDER BY pid`, [adminName, pooled])).rows,
    createDatabase: async () => {
      const name = `test_${++databases}`
      await query(`CREATE DATABASE ${name}`)
      const url = new URL(front.connectionString)
      url.pathname = name
      return url.href
    }
  }
}
