import { fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../../lib/embedded/index.ts'
import { type Figures, figuresOf, middle, partOf, table } from './figures.ts'
import { Load } from './load.ts'
import { plot } from './plot.ts'
import { acquireTimeout, calibration, connections, duration, kept, loads, rounds, warmUp, work } from './setup.ts'

const postgres = await startPostgres()
const app = fork(fileURLToPath(import.meta.resolve('./app.js')), [postgres.connectionString], { execArgv: [] })
const rest = (): Promise<void> => sleep(acquireTimeout)
try {
  const [port] = await once(app, 'message') as [number]
  const load = new Load(port)
  /** Served requests a second while as many clients as are good for it wait for their answers. */
  const bearable = async (): Promise<number> => figuresOf('', 0, await load.byClients(2 * connections, calibration)).goodput
  await bearable()
  const measured = loads.map((): Figures[] => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, times] of loads.entries()) {
      const capacity = await bearable()
      const start = performance.now()
      const answers = await load.atRate(times * capacity, duration)
      measured[i]!.push(figuresOf(`${times}×`, capacity, answers, start + warmUp, start + duration))
      await rest()
      process.stderr.write('.')
    }
  }
  const capacity = await bearable()
  const burst = figuresOf('1,000 at once', capacity, await load.burst(1000))
  load.close()

  const rows = measured.map(middle)
  const parts = rows.map(partOf)
  const left = Math.min(...parts.slice(loads.indexOf(1))) / Math.max(...parts)
  console.log(`${connections} connections, ${work} ms of work in each request, acquireTimeout ${acquireTimeout} ms; the middle one of ${rounds} rounds.\n`)
  console.log(table([...rows, burst]))
  console.log(`\nUnder overload at least ${(left * 100).toFixed(0)} % of the peak are served.`)
  await writeFile(new URL('../../../../docs/overload.svg', import.meta.url), plot(rows))

  const failures = [
    left < kept && `less than ${kept * 100} % of the peak is served under overload`,
    [...measured.flat(), burst].some(({ wrong }) => wrong > 0) && 'there are answers that are neither a success nor a 503 with Retry-After'
  ].filter((failure) => failure !== false)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
} finally {
  if (app.connected) {
    app.disconnect()
    await once(app, 'exit')
  }
  await postgres.stop()
}
