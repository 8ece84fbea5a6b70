import { parseArgs } from 'node:util'
import { UsageError } from './usage-error.ts'

export const initHelp = `Usage: fastify-pg-scope init [folder] [options]

Writes a new app into the folder, which must be empty or not exist. The last part of its path is the name of the app.
On a terminal it asks for what is not given here.

  -y, --yes     asks nothing, and takes the default for what is not given
  --js          JavaScript (default: TypeScript, without a build)
  --kysely      queries with Kysely (default: SQL)
  --drizzle     queries with Drizzle
  --prisma      queries with Prisma
  --pgbouncer   a PgBouncer in front of PostgreSQL, in compose.yaml
  -h, --help    this text
`

/** What an app may query with in place of SQL. */
export const builders = ['kysely', 'drizzle', 'prisma'] as const
export type Builder = typeof builders[number]

/** What the command line says. Undefined: nothing. */
export interface InitArguments {
  folder: string | undefined
  yes: boolean
  help: boolean
  javascript: true | undefined
  builder: Builder | undefined
  pgbouncer: true | undefined
}

const flags = ['yes', 'js', ...builders, 'pgbouncer', 'help'] as const
const short: Record<string, typeof flags[number]> = { y: 'yes', h: 'help' }

/** @throws UsageError for what `init` does not know, and for options that exclude each other */
export function readInitArguments (args: string[]): InitArguments {
  const { tokens } = parseArgs({ args, strict: false, tokens: true })
  const given = new Set<string>()
  const folders: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') folders.push(token.value)
    if (token.kind === 'option') given.add(flagOf(token.name, token.rawName, token.value))
  }
  if (folders.length > 1) {
    throw new UsageError(`\`init\` writes one folder, got ${folders.length}: ${folders.join(', ')}`)
  }
  if (folders[0] === '') throw new UsageError('The folder for the new app must not be an empty string')
  const [builder, other] = builders.filter((name) => given.has(name))
  if (other !== undefined) throw new UsageError(`\`--${builder}\` and \`--${other}\` exclude each other: choose one`)
  return {
    folder: folders[0],
    yes: given.has('yes'),
    help: given.has('help'),
    javascript: given.has('js') || undefined,
    builder,
    pgbouncer: given.has('pgbouncer') || undefined
  }
}

function flagOf (name: string, rawName: string, value: string | undefined): string {
  const flag = rawName.startsWith('--') ? flags.find((known) => known === name) : short[name]
  if (flag === undefined) {
    const allowed = flags.map((known) => `--${known}`).join(', ')
    throw new UsageError(`\`init\` has no option \`${rawName}\`. Allowed: ${allowed}`)
  }
  if (value !== undefined) throw new UsageError(`\`${rawName}\` takes no value`)
  return flag
}
