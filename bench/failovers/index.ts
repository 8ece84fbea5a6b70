// npm run failovers -- --times N: the long form of failover.test.ts
import { parseArgs } from 'node:util'
import { runFailovers } from '../../harness/failovers/failovers.ts'

const { values } = parseArgs({ options: { times: { type: 'string', default: '20' } } })
const times = Number(values.times)
if (!Number.isInteger(times) || times < 1) throw new Error('npm run failovers -- --times N: N must be an integer ≥ 1')
const teardowns: (() => unknown)[] = []
try {
  const run = await runFailovers({ teardown: (callback) => teardowns.push(callback) }, {
    times, progress: (line) => process.stderr.write(`${line}\n`)
  })
  const { failures, failovers, switchovers, requests, acknowledged, failed, untilSuccess, longestWait } = run
  const codes = [...failed].map(([code, count]) => `${count} × ${code}`).join(', ') || 'none'
  console.log(`${failovers} failovers, ${switchovers} planned switchovers, ${requests} requests, ${acknowledged} acknowledged`)
  console.log(`failed by the failovers: ${codes}`)
  console.log(`promotion to the first success: median ${median(untilSuccess)} ms, longest ${Math.max(...untilSuccess)} ms`)
  console.log(`longest wait during a switchover: median ${median(longestWait)} ms, longest ${Math.max(...longestWait)} ms`)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}

function median (values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!
}
