import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import type { PgScopeOptions } from '../../types/options.ts'
import { pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { startupOf } from '../postgres/target.ts'
import { readConnectionUrl, type UrlFields } from './connection-url.ts'
import { readYourWritesRules } from './option-lists.ts'
import { addressesOf } from './host-list.ts'
import { checkOptions, isListOfText, optionsError } from './option-rules.ts'

/** The option `replicas`, and what belongs to it. */
export interface ReplicaPolicy {
  /** The URLs, or what returns them. */
  readonly servers: readonly string[] | (() => unknown)
  /** In milliseconds; Infinity means no limit. */
  readonly maxLag: number
  /** How long a replica waits until it has replayed what a client has written. In milliseconds. */
  readonly waitForReplica: number
  /** Null: a client may read what is older than its own writes. */
  readonly readYourWrites: ReadYourWrites | null
}

/** How clients are told where they have written. */
export interface ReadYourWrites {
  /** Signs the positions that clients are given. */
  readonly secret: string
  /** The name of the cookie. */
  readonly cookie: string
}

/**
 * Checks the parts of the options.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function checkReplicas ({ replicas, readYourWrites }: PgScopeOptions): void {
  if (typeof readYourWrites === 'object') checkOptions(readYourWrites, readYourWritesRules, 'readYourWrites.')
  if (typeof replicas !== 'object') return
  for (const [i, url] of replicas.entries()) readReplicaUrl(url, i)
}

/**
 * @returns null without `replicas`
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function replicaPolicyOf (
  { replicas, maxLag = Infinity, waitForReplica = 100, readYourWrites = true }: PgScopeOptions, primary: pg.ClientConfig
): ReplicaPolicy | null {
  if (replicas === undefined) return null
  if (typeof replicas !== 'function') replicaServers(replicas, primary)
  return Object.freeze({
    servers: typeof replicas === 'function' ? replicas : [...replicas],
    maxLag,
    waitForReplica,
    readYourWrites: readYourWritesOf(readYourWrites)
  })
}

function readYourWritesOf (given: NonNullable<PgScopeOptions['readYourWrites']>): ReadYourWrites | null {
  if (given === false) return null
  const { secret, cookie = 'pg-scope-lsn' } = given === true ? {} : ownFields(given)
  // Only this process can read what it has signed.
  return Object.freeze({ secret: secret ?? randomBytes(32).toString('base64'), cookie })
}

/**
 * Checks what the function `replicas` returned.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function checkReplicaUrls (urls: unknown, primary: pg.ClientConfig): readonly string[] {
  const wrong = isListOfText(urls)
  if (wrong !== null) throw optionsError('replicas', `a function that returns ${wrong}, or a promise of it`, urls)
  replicaServers(urls as string[], primary)
  return [...urls as string[]]
}

/**
 * The configuration of each pg.Client of each replica, by a name of its own. A URL with several hosts stands for as
 * many replicas. What a URL leaves out is as for the primary.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function replicaServers (urls: readonly string[], primary: pg.ClientConfig): Map<string, pg.ClientConfig> {
  const servers = new Map<string, pg.ClientConfig>()
  for (const [i, url] of urls.entries()) {
    const fields = readReplicaUrl(url, i)
    // The port of the primary says nothing about another host.
    const addresses = fields.host === undefined
      ? [{ host: primary.host, port: fields.port === undefined ? primary.port : onePort(fields.port) }]
      : addressesOf(fields.host, fields.port)
    for (const { host, port } of addresses) {
      const config = ownFields<object>(primary, { hosts: undefined }, fields, { host, port }) as pg.ClientConfig
      startupOf(config)
      servers.set(`${url} ${host} ${port}`, config)
    }
  }
  return servers
}

function onePort (port: number | string): number {
  return addressesOf('', port)[0]!.port
}

function readReplicaUrl (url: string, index: number): UrlFields {
  const option = `replicas[${index}]`
  const {
    fallback_application_name: _, targetSessionAttrs, loadBalanceHosts, ...fields
  } = readConnectionUrl(url, option)
  checkParameter(option, 'target_session_attrs', targetSessionAttrs, ['primary', 'read-write'])
  checkParameter(option, 'load_balance_hosts', loadBalanceHosts, ['disable'])
  return fields
}

/** Reads go to standbys, and are spread over all of them. */
function checkParameter (option: string, name: string, value: string | undefined, refused: readonly string[]): void {
  if (value === undefined || !refused.includes(value)) return
  throw pgScopeError('FST_PG_SCOPE_OPTIONS', `\`${option}\`: the parameter \`${name}\` must not be '${value}', as ` +
    'reads go to standbys and are spread over all of them: remove it.')
}
