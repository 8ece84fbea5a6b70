// npm run repeated-requests -- [MINUTES [SEED]]: the long form of repeated-requests.test.ts
import { runRepeatedRequests } from '../../harness/repeated-requests/run.ts'

const [minutes = 5, seed = Date.now() % 100_000] = process.argv.slice(2).map(Number)
const teardowns: (() => unknown)[] = []
try {
  const run = await runRepeatedRequests({ teardown: (callback) => teardowns.push(callback) }, {
    duration: minutes * 60_000, clients: 8, seed, progress: (line) => process.stderr.write(`${line}\n`)
  })
  const { failures, transfers, sent, replayed, faults } = run
  console.log(`seed ${seed}: ${transfers} transfers, ${sent} requests, ${replayed} answers of earlier requests`)
  console.log(`killed: ${Object.entries(faults).map(([name, n]) => `${name} ${n} times`).join(', ')}`)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}
