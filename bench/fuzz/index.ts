import { parseArgs } from 'node:util'
import { fuzzAnswers } from '../../harness/fuzz/answers.ts'
import { fuzz } from '../../harness/fuzz/fuzz.ts'
import { startTestPostgres } from '../../harness/postgres.ts'

const { values } = parseArgs({
  options: {
    programs: { type: 'string', default: '20000' }, answers: { type: 'string', default: '0' }, seed: { type: 'string' }
  }
})
const programs = Number(values.programs)
const answers = Number(values.answers)
const seed = values.seed === undefined ? Date.now() % 0x7fffffff : Number(values.seed)
if (!Number.isInteger(programs) || programs < 1 || !Number.isInteger(answers) || !Number.isInteger(seed)) {
  throw new Error('npm run fuzz -- [--programs N | --answers N] --seed S: N must be an integer ≥ 1, S an integer')
}

const teardowns: (() => unknown)[] = []
const postgres = await startTestPostgres({ teardown: (callback) => teardowns.push(callback) })
try {
  await (answers > 0 ? fuzzServer() : fuzzSessions())
} finally {
  for (const teardown of teardowns.reverse()) await teardown()
}

async function fuzzServer (): Promise<void> {
  const { failures, failed } = await fuzzAnswers({ postgres, answers, seed })
  console.log(`seed ${seed}: ${answers} changed answers, ${failed} of their statements failed`)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
}

async function fuzzSessions (): Promise<void> {
  const began = performance.now()
  const result = await fuzz({
    connectionString: postgres.connectionString,
    programs,
    seed,
    strategies: ['queue', 'null'],
    progress: (done) => { if (done % 1000 === 0) process.stderr.write(`${done} programs\n`) }
  })
  const seconds = Math.round((performance.now() - began) / 1000)
  console.log(`seed ${seed}: ${result.programs} programs of ${result.sessions} sessions in ${seconds} s, ${result.rows} rows saved`)
  if (result.failure !== null) {
    console.error(result.failure)
    process.exitCode = 1
  }
}
