import { parse } from 'pg-connection-string'
import { optionsError } from '../config/option-rules.ts'
import { splitHosts } from '../config/url-hosts.ts'

/** Scheme and authority, path, parameters. */
const parts = /^(postgres(?:ql)?:\/\/[^/?#]*)(\/[^?#]*)?(\?[^#]*)?$/i
const socket = /^socket:/i
/** The folder of a socket, and the database. */
const folder = /^(\/[^ ]*)(?: (.*))?$/

/**
 * The database of a connection URL: that of the user's name if the URL has none.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function databaseOf (url: unknown): string {
  const known = typeof url === 'string' && (parts.test(url) || socket.test(url) || folder.test(url))
  const wrong = (): Error => optionsError(
    'connectionString', 'a connection URL such as postgres://user:password@host:5432/database', url
  )
  if (!known) throw wrong()
  let parsed
  const split = splitHosts(url)
  if (split === 'malformed') throw wrong()
  try {
    parsed = parse(split?.url ?? url)
  } catch { // its error may contain the URL
    throw wrong()
  }
  return parsed.database || parsed.user || process.env.PGDATABASE || process.env.PGUSER || 'postgres'
}

/** Whether a URL has a list of hosts. */
export function hasSeveralHosts (url: string): boolean {
  return splitHosts(url) !== null || /[?&]host=[^&]*(?:,|%2c)/i.test(url)
}

/** The same URL with another database: everything else stays as it is written. */
export function withDatabase (url: string, name: string): string {
  const encoded = encodeURIComponent(name)
  if (socket.test(url)) {
    const changed = new URL(url)
    changed.searchParams.set('db', name)
    return changed.href
  }
  const inFolder = folder.exec(url)
  if (inFolder !== null) return `${inFolder[1]} ${name}`
  return url.replace(parts, (_url, server: string, _path, query = '') => `${server}/${encoded}${query}`)
}
