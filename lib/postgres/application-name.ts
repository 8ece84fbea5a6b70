import { existsSync, readFileSync } from 'node:fs'
import { hostname, userInfo } from 'node:os'
import { dirname, join } from 'node:path'

/**
 * PostgreSQL truncates names to NAMEDATALEN - 1 bytes
 * (https://www.postgresql.org/docs/current/runtime-config-logging.html).
 */
const longest = 63

/**
 * `name:user@host`, because behind PgBouncer the server does not see the client's address. The name is that of the
 * package whose script was started.
 *
 * @param fallback replaces it if PGAPPNAME is not set
 */
export function applicationName (fallback?: string): string {
  return process.env.PGAPPNAME || fallback || cut(`${packageName() ?? 'node'}:${userName()}@${hostname()}`)
}

/** Truncates a name to 63 bytes, without splitting a character. */
export function cut (name: string): string {
  let bytes = 0
  let end = 0
  for (const character of name) {
    bytes += Buffer.byteLength(character)
    if (bytes > longest) break
    end += character.length
  }
  return name.slice(0, end)
}

function packageName (): string | undefined {
  const started = process.argv[1]
  if (started !== undefined) {
    for (let folder = dirname(started); ; folder = dirname(folder)) {
      const file = join(folder, 'package.json')
      if (existsSync(file)) {
        const name = nameIn(file)
        if (name !== undefined) return name
      }
      if (folder === dirname(folder)) break
    }
  }
  return process.env.npm_package_name
}

function nameIn (file: string): string | undefined {
  try {
    const { name } = JSON.parse(readFileSync(file, 'utf8'))
    return typeof name === 'string' && name !== '' ? name : undefined
  } catch {
    return undefined
  }
}

function userName (): string {
  try {
    return userInfo().username
  } catch { // the uid has no entry in the password file, as in some containers
    return String(process.getuid?.() ?? 'unknown')
  }
}
