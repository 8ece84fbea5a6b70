import { resolve } from 'node:path'
import {
  checkOptions, expected, isBoolean, isFunction, isObject, isPort, isWait, optionsError, type Rule, type Rules
} from '../config/option-rules.ts'
import { exposeDetails } from '../errors.ts'

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
export interface EmbeddedServerOptions {
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

/** Parameters by which the server is found and stopped. */
const ownSettings = ['config_file', 'data_directory', 'listen_addresses', 'port', 'unix_socket_directories']

const isLine = (value: unknown): value is string => {
  return typeof value === 'string' && value !== '' && !/[\0\r\n\p{Surrogate}]/u.test(value)
}
/** PostgreSQL cuts longer names off at 63 bytes (NAMEDATALEN), so that the database would not be found again. */
const isName = (value: unknown, without: RegExp): boolean => {
  return isLine(value) && Buffer.byteLength(value) <= 63 && !without.test(value)
}

const rules: Rules = {
  dataFolder: expected('the path of a folder', isLine),
  port: expected('an integer from 1 to 65535 (leave it out to use a free port)', (value) => isPort(value) === null),
  // initdb does not quote it well, and the name of an extension's owner must not contain these characters either.
  user: expected('a name of 1 to 63 bytes without any of " \' $ \\', (value) => isName(value, /["'$\\]/)),
  password: expected('a non-empty string without line breaks', isLine),
  // pg and libpq read these characters differently in a connection string.
  database: expected(
    'a name of 1 to 63 bytes without any of / ? # : @ & = + $ , ;', (value) => isName(value, /[/?#:@&=+$,;]/)
  ),
  settings: isObject,
  durable: isBoolean,
  log: isFunction,
  startTimeout: isWait
} satisfies Record<keyof EmbeddedOptions, Rule>

/** @throws FST_PG_SCOPE_OPTIONS for an unknown option or an invalid value */
export function checkEmbeddedOptions (options: EmbeddedOptions = {}): EmbeddedServerOptions {
  try {
    checkOptions(options, rules, 'startPostgres: options.')
    checkSettings(options.settings ?? {})
  } catch (error) {
    throw exposeDetails(error)
  }
  const { dataFolder, port, user, password, database = 'postgres', settings = {} } = options
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

function checkSettings (settings: Record<string, unknown>): void {
  const path = 'startPostgres: options.settings'
  for (const [name, value] of Object.entries(settings)) {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) throw optionsError(path, 'an object with names of parameters', settings)
    if (ownSettings.includes(name.toLowerCase())) {
      throw optionsError(path, `without \`${name}\`: use the options \`port\` and \`dataFolder\``, settings)
    }
    const fits = typeof value === 'number' ? Number.isFinite(value) : typeof value === 'string' && !value.includes('\0')
    if (!fits) throw optionsError(`${path}.${name}`, 'a string or a finite number', value)
  }
}
