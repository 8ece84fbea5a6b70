import { parseArgs } from 'node:util'
import { chaos } from '../../harness/chaos/chaos.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    bouncer: { type: 'boolean', default: false },
    odyssey: { type: 'boolean', default: false },
    cluster: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false }
  }
})
const { bouncer, odyssey, cluster: hasStandby } = values
const minutes = Number(values.minutes)
const seed = Number(values.seed)
if (!(minutes > 0) || !Number.isInteger(seed) || (bouncer && odyssey)) {
  throw new Error('npm run chaos -- --minutes N --seed S [--bouncer | --odyssey] [--cluster] [--quiet]: ' +
    'N must be > 0, S an integer')
}

const pooler = bouncer ? 'PgBouncer' : odyssey ? 'Odyssey' : null
const { requests, answers, faults, books, unknown, before, after, breaches, hasDisk } = await chaos({
  minutes, seed, pooler, hasStandby, ...(!values.quiet && { progress: (fault) => process.stderr.write(`${fault}\n`) })
})
const list = (counts: ReadonlyMap<string, number>): string =>
  [...counts].sort(([a], [b]) => a < b ? -1 : 1).map(([name, count]) => `${count} × ${name}`).join(', ')
const setup = [pooler ?? 'directly', hasStandby && 'a standby', hasDisk && 'a small disk'].filter(Boolean).join(', ')
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1)
const figures: [string, string][] = [
  ['setup', `${setup}; ${minutes} minutes, seed ${seed}`],
  ['faults', `${[...faults.values()].reduce((sum, count) => sum + count, 0)}: ${list(faults)}`],
  ['requests', `${requests}: ${list(answers)}`],
  ['acknowledged transfers, lost ones', `${books.acknowledged}, ${books.lost.length}`],
  ['rejected transfers in the ledger, transfers that are there twice', `${books.unwanted.length}, ${books.twice.length}`],
  ['idempotent transfers that are not there exactly once', String(books.notOnce.length)],
  ['unknown outcomes, transfers without an answer', `${unknown}, ${books.silent}`],
  ['descriptors, heap', `${before.descriptors} and ${after.descriptors}, ` +
    `${megabytes(before.heap)} and ${megabytes(after.heap)} MB`]
]
console.log(['| | |', '| --- | --- |', ...figures.map(([name, value]) => `| ${name} | ${value} |`)].join('\n'))
for (const breach of breaches) console.error(`FAILED: ${breach}`)
console.log(`${breaches.length === 0 ? 1 : 0} passed, ${breaches.length} failed`)
// A socket to something that was killed may stay open for minutes.
process.exit(breaches.length > 0 ? 1 : 0)
