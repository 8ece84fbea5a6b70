// `npm run soak [-- requests [--behind odyssey]]`: directly, or behind a pooler that .ci/poolers prepares: odyssey,
// pgpool, newest (PgBouncer) or the beginning of a PgBouncer's version.
import { parseArgs } from 'node:util'

const options = { behind: { type: 'string' } } as const
const { values: { behind }, positionals } = parseArgs({ options, allowPositionals: true })
// Read when the harness is loaded.
if (behind !== undefined) process.env.PG_SCOPE_TEST_THROUGH = behind
const { startTestPostgres } = await import('../../harness/postgres.ts')
const { soak } = await import('../../harness/soak/soak.ts')

const requests = Number(positionals[0] ?? 100_000)
/** Bytes for each request. What holds on to a session costs more than 1,000. In a short run the heap still settles. */
const limit = requests < 100_000 ? 200 : 20
const teardowns: (() => unknown)[] = []
const postgres = await startTestPostgres({ teardown: (callback) => teardowns.push(callback) })
try {
  const { connectionString } = postgres
  const { figures, failures, samples } = await soak({
    connectionString,
    requests,
    warmUp: Math.round(requests / 10),
    samples: 10,
    limit,
    progress: (sample) => process.stderr.write(`${sample.requests} requests, ${(sample.heap / 1000).toFixed(0)} kB\n`)
  })
  const heaps: [string, string] = ['heap in kB, from sample to sample', samples.map(({ heap }) => (heap / 1000).toFixed(0)).join(' ')]
  console.log(['| | |', '| --- | --- |', ...[...figures, heaps].map(([name, value]) => `| ${name} | ${value} |`)].join('\n'))
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
} finally {
  for (const teardown of teardowns) await teardown()
}
