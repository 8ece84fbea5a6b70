import { parseArgs } from 'node:util'
import { UsageError } from '../usage-error.ts'

export const doctorHelp = `Usage: fastify-pg-scope doctor [url] [options]

Connects as the app does, and compares its options with the limits and settings of PostgreSQL and PgBouncer. It changes
nothing. Without a URL it reads DATABASE_URL and the other variables that the plugin reads.

  --app <file>      reads the options of an app: a module whose default export (or \`app\`, \`buildApp\`, \`build\`,
                    \`options\`) is a Fastify instance, a function that returns one, a plugin, or the plugin's options
  --admin <url>     a login for PgBouncer's admin console: postgres://user:password@host:6432/pgbouncer
  --processes <n>   how many processes run the app (default: WEB_CONCURRENCY, else 1)
  --json            for machines
  -h, --help        this text

Exit status: 0 nothing or notes, 1 warnings, 2 errors, 3 the doctor could not run.
`

/** The exit status for what the doctor cannot work with. 0, 1 and 2 are results. */
export const cannotRun = 3

export interface DoctorArguments {
  url: string | undefined
  app: string | undefined
  admin: string | undefined
  processes: number
  json: boolean
  help: boolean
}

const withValue = ['app', 'admin', 'processes'] as const
const flags = ['json', 'help'] as const
const known: readonly string[] = [...withValue, ...flags]

/** @throws UsageError for what `doctor` does not know, and for options that exclude each other */
export function readDoctorArguments (args: string[], env: NodeJS.ProcessEnv = process.env): DoctorArguments {
  const options = { app: { type: 'string' }, admin: { type: 'string' }, processes: { type: 'string' } } as const
  const { tokens } = parseArgs({ args, strict: false, tokens: true, options })
  const values: Record<string, string | true> = {}
  const urls: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') urls.push(token.value)
    if (token.kind !== 'option') continue
    const name = token.rawName === '-h' ? 'help' : token.rawName.startsWith('--') ? token.name : ''
    if (!known.includes(name)) {
      const allowed = known.map((each) => `--${each}`).join(', ')
      throw new UsageError(`\`doctor\` has no option \`${token.rawName}\`. Allowed: ${allowed}`, cannotRun)
    }
    values[name] = valueOf(name, token.rawName, token.value)
  }
  if (urls.length > 1) throw new UsageError(`\`doctor\` takes one URL, got ${urls.length}`, cannotRun)
  if (urls[0] === '') throw new UsageError('The URL must not be an empty string', cannotRun)
  if (urls.length === 1 && values.app !== undefined) {
    throw new UsageError('A URL and `--app` exclude each other: the app has a URL of its own', cannotRun)
  }
  return {
    url: urls[0],
    app: values.app as string | undefined,
    admin: values.admin as string | undefined,
    processes: processesOf(values.processes as string | undefined, env.WEB_CONCURRENCY),
    json: values.json === true,
    help: values.help === true
  }
}

function valueOf (name: string, rawName: string, value: string | undefined): string | true {
  if ((flags as readonly string[]).includes(name)) {
    if (value !== undefined) throw new UsageError(`\`${rawName}\` takes no value`, cannotRun)
    return true
  }
  if (value === undefined || value === '') throw new UsageError(`\`${rawName}\` needs a value`, cannotRun)
  return value
}

function processesOf (given: string | undefined, concurrency: string | undefined): number {
  if (given !== undefined) {
    if (/^[1-9]\d{0,5}$/.test(given)) return Number(given)
    throw new UsageError(`\`--processes\` must be an integer ≥ 1, got ${JSON.stringify(given)}`, cannotRun)
  }
  return concurrency !== undefined && /^[1-9]\d{0,5}$/.test(concurrency) ? Number(concurrency) : 1
}
