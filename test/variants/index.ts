// `npm run test:variants [-- --spread] [variants] [files and folders]`: the foundation's suite, unchanged, behind
// PgBouncers and with the null strategy (see harness/variant.ts). The last line is the count; the exit status is 0
// only if nothing failed.
import { findForVariant } from '../../harness/pgbouncer/selection.ts'
import { findPooler } from '../../harness/poolers/programs.ts'
import { choose, shareOf } from './choice.ts'
import { testFiles } from './files.ts'
import { run } from './run.ts'
import { describe, sum, type Tally } from './tally.ts'

const { variants, paths, spread } = choose(process.argv.slice(2))
const files = testFiles(paths)
const tallies: Tally[] = []

for (const [index, variant] of variants.entries()) {
  const isThere = variant.through === 'direct' || (await findPooler(variant.through) ?? await findForVariant(variant.through)) !== undefined
  if (!isThere) {
    const required = process.env.CI === 'true'
    console.log(`${variant.name}: ${required ? 'FAILED' : 'skipped'}, there is no such pooler; .ci/poolers prepares it`)
    tallies.push({ passed: 0, failed: required ? 1 : 0, notRun: 0 })
    continue
  }
  const chosen = spread ? shareOf(files, index, variants.length) : files
  if (chosen.length === 0) continue
  const began = performance.now()
  const tally = await run(chosen, variant)
  console.log(`${variant.name}: ${describe(tally)} (${chosen.length} files, ${Math.round((performance.now() - began) / 1000)} s)`)
  tallies.push(tally)
}

const total = sum(tallies)
console.log(`total: ${describe(total)}`)
process.exitCode = total.failed > 0 ? 1 : 0
