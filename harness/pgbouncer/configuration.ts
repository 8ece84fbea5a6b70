import { readFileSync } from 'node:fs'
import { compareVersions } from './programs.ts'

export type Settings = Record<string, string | number>

/** What a user is told to use is what the tests run behind. */
const recommended = readFileSync(new URL('../../docs/pgbouncer.ini', import.meta.url), 'utf8')

export interface Upstream {
  host: string
  port: number
}

/**
 * The recommended pgbouncer.ini with other addresses and settings. Those that a comment right above calls newer
 * than the version are left out, as this comment tells its reader to: PgBouncer does not start with one that it
 * does not know.
 *
 * @param peers the folders of the sockets of all processes that share the port
 */
export function configuration (
  version: string, upstream: Upstream, settings: Settings, peers: readonly string[] = []
): string {
  const { databases, pgbouncer } = parse(recommended, version)
  const lines = ['[databases]']
  for (const [name, value] of databases) {
    lines.push(`${name} = ${value.replace(/\bhost=\S+/, `host=${upstream.host}`).replace(/\bport=\d+/, `port=${upstream.port}`)}`)
  }
  lines.push('', '[pgbouncer]')
  for (const [name, value] of new Map<string, string | number>([...pgbouncer, ...Object.entries(settings)])) lines.push(`${name} = ${value}`)
  if (peers.length > 0) lines.push('', '[peers]', ...peers.map((folder, i) => `${i + 1} = host=${folder} port=${settings.listen_port}`))
  return `${lines.join('\n')}\n`
}

interface Sections {
  databases: Map<string, string>
  pgbouncer: Map<string, string>
}

/** A comment takes a line of its own, and an empty line ends what it is about. */
export function parse (ini: string, version: string): Sections {
  const sections: Sections = { databases: new Map(), pgbouncer: new Map() }
  let section: Map<string, string> | undefined
  let since = '0'
  for (const line of ini.split('\n').map(line => line.trim())) {
    const [, title] = /^\[(.*)\]$/.exec(line) ?? []
    const [, name, value] = /^([^;#=]+?)\s*=\s*(.*)$/.exec(line) ?? []
    if (line === '') since = '0'
    else if (/^[;#]/.test(line)) since = /^;\s*Since (\d[\d.]*\d)/.exec(line)?.[1] ?? since
    else if (title === 'databases' || title === 'pgbouncer') section = sections[title]
    else if (section === undefined || name === undefined) throw new Error(`docs/pgbouncer.ini: ${line}`)
    else if (compareVersions(version, since) >= 0) section.set(name, value ?? '')
  }
  return sections
}
