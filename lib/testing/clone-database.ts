import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { connectionConfig } from '../config/connection-config.ts'
import { checkOptions, isText, isWait, type Rules } from '../config/option-rules.ts'
import { exposeDetails, pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { type CheckHost, onSomeHost } from '../postgres/hosts.ts'
import { databaseOf, hasSeveralHosts, withDatabase } from './database-url.ts'

export interface CloneOptions {
  /** The database that is copied. Default: the database of the URL. Nothing may be connected to it. */
  template?: string
  /** How long to wait for a template that others are connected to. Milliseconds, default 30000. */
  timeout?: number
}

/** A database for one test file. See {@link cloneDatabase}. */
export interface DatabaseClone {
  /** The URL that was given, with the new database. */
  readonly connectionString: string
  /** Ends all connections to the new database, and removes it. Only the first call has an effect. */
  drop (): Promise<void>
  [Symbol.asyncDispose] (): Promise<void>
}

const rules: Rules = { template: isText, timeout: isWait } satisfies Record<keyof CloneOptions, unknown>

/** Databases to be connected to while another one is copied: it must not be the template. */
const maintenance = ['postgres', 'template1']

/** Above this size copying files is faster than writing every page to the log. Bytes. */
const largestLogged = 64 * 2 ** 20

/** Between two attempts. PostgreSQL itself waits for five seconds in each of them. Milliseconds. */
const retryInterval = 100

/** How long a connection to one host may take to log in. Milliseconds. */
const connectTimeout = 5000

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const objectInUse = '55006'
const noDatabase = '3D000'

/**
 * Copies a database, for tests that need real COMMITs in parallel: of several sessions at a time, of processes, of
 * NOTIFY. The copy has the tables and rows of its template. It takes the right to create databases, and to read the
 * template: ownership, or IS_TEMPLATE.
 *
 * ```ts
 * await using clone = await cloneDatabase(process.env.DATABASE_URL, { template: 'shop_test' })
 * await app.register(pgScope, { connectionString: clone.connectionString })
 * ```
 *
 * @param url of the server, with user and password
 * @throws FST_PG_SCOPE_TESTING when the server refuses it: the `cause` is pg's error
 * @throws FST_PG_SCOPE_OPTIONS for an invalid URL or option
 */
export async function cloneDatabase (url: string, options: CloneOptions = {}): Promise<DatabaseClone> {
  try {
    checkOptions(options, rules, 'cloneDatabase: options.')
    const { template = databaseOf(url), timeout = 30000 } = options
    databaseOf(url)
    const name = uniqueName(template)
    await asAdmin(url, template, (client) => create(client, name, template, timeout))
    let dropped: Promise<void> | null = null
    const drop = (): Promise<void> => {
      dropped ??= asAdmin(url, name, async (client) => {
        await client.query(`DROP DATABASE IF EXISTS ${client.escapeIdentifier(name)} WITH (FORCE)`)
      })
      return dropped
    }
    return { connectionString: withDatabase(url, name), drop, [Symbol.asyncDispose]: drop }
  } catch (error) {
    throw exposeDetails(error)
  }
}

/** At most 63 bytes, as PostgreSQL cuts longer names off; letters that need no encoding in a URL. */
function uniqueName (template: string): string {
  const readable = template.toLowerCase().replaceAll(/[^a-z0-9_]+/g, '_').slice(0, 40)
  return `${readable}_${randomBytes(8).toString('hex')}`
}

async function create (client: pg.Client, name: string, template: string, timeout: number): Promise<void> {
  const text = `CREATE DATABASE ${client.escapeIdentifier(name)} TEMPLATE ${client.escapeIdentifier(template)}` +
    await strategyFor(client, template)
  for (const deadline = performance.now() + timeout; ; await sleep(retryInterval)) {
    try {
      await client.query(text)
      return
    } catch (error) {
      if ((error as pg.DatabaseError).code !== objectInUse || performance.now() > deadline) throw error
    }
  }
}

/** PostgreSQL 15 and later can write a copy to the log instead of waiting for checkpoints around it. */
async function strategyFor (client: pg.Client, template: string): Promise<string> {
  const { rows: [row] } = await client.query<{ version: number, size: string }>(
    'SELECT current_setting(\'server_version_num\')::int AS version, pg_database_size(oid) AS size ' +
    'FROM pg_database WHERE datname = $1', [template])
  if (row === undefined || row.version < 150000) return ''
  return ` STRATEGY ${Number(row.size) > largestLogged ? 'FILE_COPY' : 'WAL_LOG'}`
}

/** Runs fn on a connection to a database of the same server that is not `database`. */
async function asAdmin (url: string, database: string, fn: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = await connect(url, maintenance.filter((name) => name !== database))
  try {
    await fn(client)
  } catch (error) {
    const { message, detail } = error as pg.DatabaseError
    throw testingError(`${message}${detail === undefined ? '' : ` (${detail.replace(/\.$/, '')})`}.`, error)
  } finally {
    await client.end().catch(() => {})
  }
}

async function connect (url: string, [database, ...others]: string[]): Promise<pg.Client> {
  try {
    return await open(withDatabase(url, database!))
  } catch (error) {
    if ((error as pg.DatabaseError).code === noDatabase && others.length > 0) return await connect(url, others)
    const { message, code } = error as pg.DatabaseError
    throw testingError(`the server cannot be reached: ${message || code}.`, error)
  }
}

const name = 'cloneDatabase'

/** Of several hosts, the primary: no other one makes databases. */
async function open (url: string): Promise<pg.Client> {
  if (!hasSeveralHosts(url)) return await logIn({ connectionString: url, application_name: name })
  const config = connectionConfig(url, name, { targetSessionAttrs: 'primary' })
  return await onSomeHost(config, logIn)
}

async function logIn (config: pg.ClientConfig, check?: CheckHost): Promise<pg.Client> {
  const client = new pg.Client(ownFields<pg.ClientConfig>(config, { connectionTimeoutMillis: connectTimeout }))
  client.on('error', () => {})
  try {
    await client.connect()
    await check?.(client, null)
    return client
  } catch (error) {
    client.connection.stream.destroy()
    throw error
  }
}

function testingError (what: string, cause: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_TESTING', `cloneDatabase(): ${what}`, cause)
}
