import { writeFile } from 'node:fs/promises'
import { startTestPostgres } from '../../harness/postgres.ts'
import { cases } from './cases/index.ts'
import { page } from './page.ts'
import { type Row, table } from './report.ts'
import { breaches } from './rule.ts'
import { type SubjectName, subjects } from './subject.ts'
import { runTrial } from './trial.ts'

/** Trials at a time: they mostly wait. */
const concurrency = 4
const flags = process.argv.slice(2)
const only = flags.find((flag) => !flag.startsWith('--'))
const names = Object.keys(subjects) as SubjectName[]

const teardowns: (() => unknown)[] = []
const postgres = await startTestPostgres({ teardown: (callback) => teardowns.push(callback) })
try {
  const rows: Row[] = cases.filter(({ name }) => only === undefined || name.includes(only)).map(
    ({ name }) => ({ name, findings: [] })
  )
  const trials = rows.flatMap(
    (row) => names.map((name, column) => ({ row, name, column, case: cases.find((one) => one.name === row.name)! }))
  )
  await Promise.all(Array.from({ length: concurrency }, async () => {
    for (let trial = trials.shift(); trial !== undefined; trial = trials.shift()) {
      const finding = await runTrial(postgres, trial.name, trial.case)
      trial.row.findings[trial.column] = finding
      process.stderr.write(`${breaches(finding).length === 0 ? 'right' : 'wrong'}  ${trial.name}: ${trial.row.name}\n`)
    }
  }))
  const text = table(names, rows)
  console.log(text)
  // A page with some of the rows would look like all of them.
  if (flags.includes('--write') && only === undefined) {
    const version = (await postgres.query('SHOW server_version')).rows[0].server_version
    await writeFile('docs/comparison.md', page(text, version))
  }
} finally {
  for (const teardown of teardowns) await teardown()
}
