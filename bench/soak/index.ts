import { startTestPostgres } from '../../harness/postgres.ts'
import { soak } from '../../harness/soak/soak.ts'

/** Bytes for each request. Whatever holds on to a session costs more than 1,000. */
const limit = 20

const requests = Number(process.argv[2] ?? 100_000)
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
