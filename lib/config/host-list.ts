import { isIPv6 } from 'node:net'
import type pg from 'pg'
import { pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { Hosts } from '../postgres/hosts.ts'
import type { ConnectionFields, TargetSessionAttrs } from '../../types/options.ts'
import { expected, isPort, optionsError, type Rule } from './option-rules.ts'
import { isLoadBalanceHosts, isTargetSessionAttrs } from './option-lists.ts'

/** The fields of a pg.Client, whose host and port may be lists in the form of libpq. */
export type GivenConfig = Omit<pg.ClientConfig, 'port'> &
  Pick<ConnectionFields, 'port' | 'targetSessionAttrs' | 'loadBalanceHosts'>

/** The configuration of each pg.Client; `hosts` is read by hostsOf(). */
export type ClientConfig = pg.ClientConfig & { hosts?: Hosts | undefined }

interface Address {
  readonly host: string
  readonly port: number
}

const defaultPort = 5432

/** Not in a name, an address or a folder: a mistake here would be noticed when that host is needed at last. */
const isHost: Rule = expected(
  'a host, or several with commas alone between them (no spaces, no brackets, ports in `port`)',
  (host) => /^[/@]/.test(host as string) || isIPv6(host as string) || !/[\s:[\]]/.test(host as string)
)

/**
 * Reads lists of hosts and ports as libpq does: one port for all, or one for each; an empty element is the default
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOST).
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function addressesOf (host = '', port: number | string = ''): Address[] {
  const hosts = host.split(',')
  const noHost = hosts.find((each) => isHost(each) !== null)
  if (noHost !== undefined) throw optionsError('host', isHost(noHost)!, noHost)
  const ports = String(port).split(',').map((each) => each === '' ? defaultPort : Number(each))
  const wrong = ports.find((each) => isPort(each) !== null)
  if (wrong !== undefined) throw optionsError('port', isPort(wrong)!, wrong)
  if (ports.length !== 1 && ports.length !== hosts.length) {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`port` must be one port, or as many as there are hosts: got ' +
      `${ports.length} ports for ${hosts.length} ${hosts.length === 1 ? 'host' : 'hosts'}.`)
  }
  return hosts.map((each, i) => ({ host: each || 'localhost', port: ports[i] ?? ports[0]! }))
}

/**
 * Reads `host`, `port`, `targetSessionAttrs` and `loadBalanceHosts`, as far as they are given, and libpq's variables
 * for them. The result leads to one host, the first one; several are in `hosts`.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function withHosts (given: GivenConfig): ClientConfig {
  const { targetSessionAttrs, loadBalanceHosts, ...rest } = given
  const config = ownFields<ClientConfig>(rest as pg.ClientConfig)
  const host = given.host ?? variable('PGHOST')
  const port = given.port ?? variable('PGPORT')
  const wants = targetSessionAttrs ?? variable('PGTARGETSESSIONATTRS', isTargetSessionAttrs) ?? 'any'
  const balance = loadBalanceHosts ?? variable('PGLOADBALANCEHOSTS', isLoadBalanceHosts) ?? 'disable'
  const several = `${host ?? ''}${port ?? ''}`.includes(',')
  // pg reads a single host, and checks it.
  if (!several && wants === 'any') return config
  const addresses = addressesOf(host, port)
  const hosts = addresses.length === 1 && wants === 'any'
    ? undefined
    : new Hosts(addresses, wants as TargetSessionAttrs, balance === 'random')
  return ownFields<ClientConfig>(config, { ...addresses[0]!, hosts })
}

/** The value of one of libpq's variables; an empty one counts as not set. */
function variable (name: string, rule: Rule = () => null): string | undefined {
  const value = process.env[name] || undefined
  const expected = value === undefined ? null : rule(value)
  if (expected !== null) throw optionsError(name, expected, value)
  return value
}
