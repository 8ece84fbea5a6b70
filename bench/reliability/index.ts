import { writeFile } from 'node:fs/promises'
import { selectPgBouncers } from '../../harness/pgbouncer/selection.ts'
import { astray } from '../../harness/reliability/astray.ts'
import { badDays } from '../../harness/reliability/events/index.ts'
import { breaches, type Finding } from '../../harness/reliability/finding.ts'
import { page } from './page.ts'
import { runDay } from '../../harness/reliability/run.ts'
import { startServer } from '../../harness/reliability/server.ts'
import { table } from './table.ts'

const flags = process.argv.slice(2)
const strategy = flags.includes('--null') ? 'null' : 'queue'
const only = flags.find((flag) => !flag.startsWith('--'))

async function main (): Promise<void> {
  const { programs, missing } = await selectPgBouncers()
  for (const name of missing) console.error(`${name} is not installed: .ci/poolers prepares it`)
  const server = await startServer()
  try {
    const findings: Finding[] = []
    for (const event of badDays.filter(({ name }) => only === undefined || name.includes(only))) {
      for (const program of event.where === 'everywhere' ? [null, ...programs] : programs) {
        const finding = await runDay(server, program, event, strategy)
        findings.push(finding)
        process.stderr.write(`${breaches(finding).length === 0 ? 'kept  ' : 'broken'}  ${finding.setup}: ${event.name}\n`)
      }
    }
    const text = table(findings)
    console.log(text)
    // A page with some of the rows, or with others, would look like this one.
    if (flags.includes('--write') && only === undefined && strategy === 'queue') {
      const [row] = await server.query<{ server_version: string }>('SHOW server_version')
      await writeFile('docs/reliability.md', page(text, badDays, row!.server_version))
    }
    if (findings.some((finding) => breaches(finding).length > 0)) process.exitCode = 1
  } finally {
    await server.stop()
  }
}

// Nothing ends this process by itself, for it gathers what nobody caught.
await main().catch((error) => astray.push(error))
for (const error of astray) console.error(error)
if (astray.length > 0) process.exitCode = 1
