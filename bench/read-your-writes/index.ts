// npm run read-your-writes -- --pairs N: the long form of read-your-writes.test.ts
import { parseArgs } from 'node:util'
import { runPairs } from '../../harness/read-your-writes/read-your-writes.ts'

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '10000' }, postgres: { type: 'string' } } })
const pairs = Number(values.pairs)
if (!Number.isInteger(pairs) || pairs < 1) {
  throw new Error('npm run read-your-writes -- --pairs N [--postgres FOLDER]: N must be an integer ≥ 1')
}
const teardowns: (() => unknown)[] = []
try {
  const run = await runPairs({ teardown: (callback) => teardowns.push(callback) }, {
    pairs, installation: values.postgres, progress: (line) => process.stderr.write(`${line}\n`)
  })
  const { stale, servedBy, passedOn, roundTrips, duration } = run
  const places = [...servedBy].sort(([a], [b]) => a < b ? -1 : 1).map(([place, count]) => `${place} ${count}`).join(', ')
  console.log(`${run.pairs} pairs in ${Math.round(duration / 1000)} s, ${stale} stale`)
  console.log(`read from: ${places}; ${passedOn} were passed on by a replica`)
  console.log(`100 pairs: ${roundTrips.withReplicas} round trips, and ${roundTrips.without} without replicas`)
  if (stale > 0 || roundTrips.withReplicas !== roundTrips.without) {
    console.error('FAILED')
    process.exitCode = 1
  }
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}
