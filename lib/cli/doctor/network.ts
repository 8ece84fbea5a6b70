import { BlockList, isIP } from 'node:net'

const local = new BlockList()
local.addSubnet('127.0.0.0', 8, 'ipv4')
local.addAddress('::1', 'ipv6')

/** RFC 1918, RFC 6598, RFC 3927, RFC 4193 and link-local IPv6. */
const unrouted = new BlockList()
for (const [address, bits] of [
  ['10.0.0.0', 8], ['172.16.0.0', 12], ['192.168.0.0', 16], ['100.64.0.0', 10], ['169.254.0.0', 16]
] as const) unrouted.addSubnet(address, bits, 'ipv4')
unrouted.addSubnet('fc00::', 7, 'ipv6')
unrouted.addSubnet('fe80::', 10, 'ipv6')

/** @param address an IP address; undefined for a Unix domain socket */
export function networkOf (address: string | undefined): 'local' | 'private' | 'public' {
  if (address === undefined) return 'local'
  const plain = address.replace(/^::ffff:/, '')
  const family = isIP(plain) === 6 ? 'ipv6' : 'ipv4'
  if (local.check(plain, family)) return 'local'
  return unrouted.check(plain, family) ? 'private' : 'public'
}

/** A name or address of this machine, or the folder of a Unix domain socket. */
export function isLocalHost (host: string): boolean {
  return host === 'localhost' || host.startsWith('/') || (isIP(host) !== 0 && networkOf(host) === 'local')
}
