import { parseArgs } from 'node:util'
import { cancelAmongOthers } from '../../harness/cancels.ts'
import { startPgBouncer } from '../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../harness/postgres.ts'

const { values: { bouncer }, positionals } = parseArgs({
  options: { bouncer: { type: 'boolean', default: false } }, allowPositionals: true
})
const count = Number(positionals[0] ?? 5000)
if (!Number.isInteger(count) || count < 1) {
  throw new Error('npm run cancels -- N [--bouncer]: N must be an integer ≥ 1')
}

const teardowns: (() => unknown)[] = []
const t = { teardown: (callback: () => unknown) => teardowns.push(callback) }
const postgres = await startTestPostgres(t)
try {
  const { connectionString } = bouncer ? await startPgBouncer(t, postgres) : postgres
  for (const strategy of ['queue', 'null'] as const) {
    const { canceled, hit } = await cancelAmongOthers({ connectionString, strategy, count })
    console.log(`${strategy}: ${count} calls ended early, ${canceled} cancel requests, ${hit.length} of ${count} others hit`)
    for (const answer of hit.slice(0, 5)) console.error(`FAILED: ${answer}`)
    if (hit.length > 0) process.exitCode = 1
  }
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}
