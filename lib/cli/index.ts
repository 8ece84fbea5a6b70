#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { init } from './init.ts'
import { packageFolder } from './package-folder.ts'
import { UsageError } from './usage-error.ts'

/** The commands by name. Each gets the arguments behind its name. */
const commands: Record<string, (args: string[]) => Promise<void>> = {
  init,
  // It loads the plugin, which `init` does not need.
  doctor: async (args) => (await import('./doctor/doctor.ts')).doctor(args)
}

const help = `Usage: fastify-pg-scope <command>

  init [folder]   writes a new app: Fastify, PostgreSQL, migrations, tests
  doctor [url]    compares the app's options with the limits and settings of PostgreSQL and PgBouncer

  --version       the version of this package
  --help          this text; \`fastify-pg-scope init --help\` has the options of init, and so has doctor
`

async function run ([name, ...args]: string[]): Promise<void> {
  if (name === '--help' || name === '-h') {
    process.stdout.write(help)
    return
  }
  if (name === '--version' || name === '-v') {
    const { version } = JSON.parse(readFileSync(join(packageFolder(), 'package.json'), 'utf8'))
    process.stdout.write(`${version}\n`)
    return
  }
  if (name === undefined) throw new UsageError(`A command is missing: ${Object.keys(commands).join(', ')}`)
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    throw new UsageError(`There is no command \`${name}\`. Allowed: ${Object.keys(commands).join(', ')}`)
  }
  await command(args)
}

try {
  await run(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  if (error instanceof UsageError) process.stderr.write('`npx fastify-pg-scope --help` shows what is possible.\n')
  process.exitCode = error instanceof UsageError ? error.status : 1
}
