import { resolve } from 'node:path'
import { exposeDetails, pgScopeError } from '../errors.ts'

/** What {@link startPostgres} takes. Everything may be left out. */
export interface EmbeddedOptions {
  /**
   * Where the data lives. A folder that is named here is made if need be, kept at the end and found again by the next
   * start, with its password. Left out: a temporary folder, removed when the server stops and when this process dies.
   */
  dataFolder?: string
  /** The port on 127.0.0.1. Default: a free one. */
  port?: number
  /** The superuser. Default: 'postgres', or the one that the data folder was made for. */
  user?: string
  /** Its password. Default: a random one, or the one that the data folder was made with. */
  password?: string
  /** The database that `connectionString` leads to, made if it does not exist. Default: 'postgres'. */
  database?: string
  /** Parameters of the server (https://www.postgresql.org/docs/18/runtime-config.html), such as `max_connections`. */
  settings?: Record<string, string | number>
  /**
   * Whether commits have to survive a crash. Default: true if `dataFolder` is named; otherwise false, which is quicker:
   * `fsync`, `synchronous_commit` and `full_page_writes` are off.
   */
  durable?: boolean
  /** Takes each line that the server logs, without its line end. Default: dropped. */
  log?: (line: string) => void
  /** Milliseconds until the server has to answer, counted from the call. Default: 30000. */
  startTimeout?: number
}

/** The options after their check, with the defaults that do not depend on the data folder. */
export interface CheckedOptions {
  dataFolder: string | undefined
  port: number | undefined
  user: string | undefined
  password: string | undefined
  database: string
  settings: Record<string, string | number>
  durable: boolean
  log: (line: string) => void
  startTimeout: number
}

/** These decide how the server is found and stopped, so they are not the caller's to set. */
const ownSettings = ['config_file', 'data_directory', 'listen_addresses', 'port', 'unix_socket_directories']

type Check = (value: unknown) => boolean

/** PostgreSQL cuts longer names off at 63 bytes (NAMEDATALEN), and nobody would find the database again. */
const isName: Check = value => isText(value) && Buffer.byteLength(value as string) <= 63
const isText: Check = value => typeof value === 'string' && value !== '' && !/[\0\r\n\p{Surrogate}]/u.test(value)
const isWhole = (value: unknown, from: number, to: number) => Number.isInteger(value) && Number(value) >= from && Number(value) <= to

const expected: Record<keyof EmbeddedOptions, [string, Check]> = {
  dataFolder: ['the path of a folder', isText],
  port: ['a whole number from 1 to 65535; leave it out for a free one', value => isWhole(value, 1, 65535)],
  // initdb does not quote it well, and the owner of an extension must not contain them either.
  user: ['a name of 1 to 63 bytes without any of " \' $ \\', value => isName(value) && !/["'$\\]/.test(value as string)],
  password: ['a text of one line, not empty', isText],
  // pg and libpq read these differently in a connection string.
  database: ['a name of 1 to 63 bytes without any of / ? # : @ & = + $ , ;', value => isName(value) && !/[/?#:@&=+$,;]/.test(value as string)],
  settings: ['an object of parameter names with texts or numbers', value => typeof value === 'object' && value !== null && !Array.isArray(value)],
  durable: ['true or false', value => typeof value === 'boolean'],
  log: ['a function that takes a line', value => typeof value === 'function'],
  startTimeout: ['a whole number of milliseconds from 1 to 2147483647', value => isWhole(value, 1, 2147483647)]
}

/** @throws FST_PG_SCOPE_OPTIONS for an unknown option or a value that would not do */
export function checkOptions (options: EmbeddedOptions = {}): CheckedOptions {
  if (typeof options !== 'object' || options === null) refuse('startPostgres() takes an object of options')
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(expected, name)) {
      refuse(`startPostgres() has no option '${name}'. It has: ${Object.keys(expected).join(', ')}`)
    }
    const [wanted, check] = expected[name as keyof EmbeddedOptions]
    // The value stays out of the message: it may be the password.
    if (value !== undefined && !check(value)) refuse(`The option '${name}' of startPostgres() must be ${wanted}`)
  }
  const { dataFolder, port, user, password, database = 'postgres', settings = {} } = options
  checkSettings(settings)
  return {
    dataFolder: dataFolder === undefined ? undefined : resolve(dataFolder),
    port,
    user,
    password,
    database,
    settings: { ...settings },
    durable: options.durable ?? dataFolder !== undefined,
    log: options.log ?? (() => {}),
    startTimeout: options.startTimeout ?? 30_000
  }
}

function checkSettings (settings: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(settings)) {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) refuse(`'${name}' in the option 'settings' is not the name of a parameter`)
    if (ownSettings.includes(name.toLowerCase())) {
      refuse(`The parameter '${name}' is not for the option 'settings': use the options 'port' and 'dataFolder'`)
    }
    const fits = typeof value === 'number' ? Number.isFinite(value) : typeof value === 'string' && !value.includes('\0')
    if (!fits) refuse(`The parameter '${name}' in the option 'settings' must be a text or a finite number`)
  }
}

function refuse (message: string): never {
  throw exposeDetails(pgScopeError('FST_PG_SCOPE_OPTIONS', message))
}
