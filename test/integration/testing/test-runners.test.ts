import t from 'tap'
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startTestPostgres } from '../../../harness/postgres.ts'

const require = createRequire(import.meta.url)
const folder = join(import.meta.dirname, 'runners')
const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text)')

const jest = JSON.stringify({
  rootDir: folder, testMatch: ['**/with-jest.*'], testEnvironment: 'node', transform: {}, moduleFileExtensions: ['js', 'mjs', 'cjs']
})
/** The program of a package. */
const bin = (name: string, path: string): string => join(require.resolve(`${name}/package.json`), '..', path)

const runners: Record<string, [args: string[], passed: RegExp]> = {
  'node:test, as an ES module and in CommonJS': [['--test', '--test-reporter=tap', 'with-node.mjs', 'with-node.cjs'], /^# pass 4$/m],
  tap: [['with-tap.mjs'], /^ok 2 - second/m],
  vitest: [[bin('vitest', 'vitest.mjs'), 'run', '--root', folder, '--dir', folder, '--config', 'vitest.config.mjs'], /Tests\s.*2 passed/],
  'jest, as an ES module and in CommonJS': [['--experimental-vm-modules', bin('jest', 'bin/jest.js'), '--testTimeout=60000', '--config', jest], /Tests:\s.*4 passed, 4 total/]
}

// All at the same time, as the files of a run: they share the database and do not see each other.
const runs = Object.entries(runners).map(([name, [args, passed]]) => {
  const { NODE_OPTIONS: _hooks, TAP: _tap, NODE_TEST_CONTEXT: _context, ...env } = process.env
  const run = promisify(execFile)(process.execPath, args, {
    cwd: folder, env: { ...env, CI: 'true', NO_COLOR: '1', NODE_NO_WARNINGS: '1', DATABASE_URL: postgres.connectionString }, timeout: 120_000
  }).catch((error: Error & { stdout: string, stderr: string }) => ({ stdout: `${error.message}\n${error.stdout}`, stderr: error.stderr }))
  return [name, run, passed] as const
})

for (const [name, run, passed] of runs) {
  t.test(`a sandbox works with ${name}`, async (t) => {
    const { stdout, stderr } = await run
    t.match(`${stdout}\n${stderr}`, passed)
  })
}

t.test('nothing of it is left on the database', async (t) => {
  t.same((await postgres.query('SELECT * FROM things')).rows, [])
  t.same((await postgres.activity()), [])
})
