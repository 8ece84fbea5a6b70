import { mkdir, writeFile } from 'node:fs/promises'
import { startTestPostgres } from '../../test/helpers/postgres.ts'
import { help, readOptions } from './options.ts'
import { planOf } from './plan.ts'
import type { Result } from './results.ts'
import { runBlock } from './run.ts'
import { createTables } from './schema.ts'
import { tables } from './table.ts'

const options = readOptions(process.argv.slice(2))
if (options === 'help') {
  console.log(help)
  process.exit()
}
const teardowns: (() => unknown)[] = []
const postgres = await startTestPostgres({ teardown: (callback) => teardowns.push(callback) }, { settings: { checkpoint_timeout: '1h' } })
try {
  await createTables(postgres)
  const results: Result[] = []
  for (const block of planOf(options.choice)) {
    results.push(...await runBlock(postgres, block, { rounds: options.rounds, duration: options.seconds * 1000, say: (line) => console.error(line) }))
  }
  console.log(tables(results))
  await mkdir('bench/results', { recursive: true })
  await writeFile('bench/results/speed.json', `${JSON.stringify(results, null, 2)}\n`)
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}
