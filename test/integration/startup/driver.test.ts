import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { temporaryFolder } from '../../../harness/folders.ts'

const root = join(import.meta.dirname, '../../..')
t.setTimeout(120_000)
const folder = await temporaryFolder(t)
const modules = join(folder, 'node_modules')

// The plugin as built, beside a pg that can be changed. Links are followed to their targets, so both are copies.
await mkdir(join(modules, 'fastify-pg-scope/dist'), { recursive: true })
for (const part of ['dist/lib', 'dist/types']) {
  await cp(join(root, part), join(modules, 'fastify-pg-scope', part), { recursive: true })
}
await cp(join(root, 'package.json'), join(modules, 'fastify-pg-scope/package.json'))
await cp(join(root, 'node_modules/pg'), join(modules, 'pg'), { recursive: true })
await mkdir(join(modules, '@fastify'))
for (const name of [
  'fastify', 'fastify-plugin', '@fastify/env', '@fastify/error', 'pg-connection-string', 'pg-pool', 'pg-protocol', 'pg-types', 'pgpass'
]) await symlink(join(root, 'node_modules', name), join(modules, name))
await writeFile(join(folder, 'boot.mjs'), `
  import Fastify from 'fastify'
  import pgScope from 'fastify-pg-scope'
  const app = Fastify()
  app.register(pgScope, { host: '127.0.0.1', user: 'me', startupCheck: false })
  const report = (error) => console.log(error.code + ' ' + error.statusCode + ' ' + error.message)
  await app.ready().then(() => console.log('started'), report)
  await app.close()
`)
await writeFile(join(folder, 'package.json'), '{}')

async function boot (env: Record<string, string> = {}): Promise<string> {
  const { NODE_OPTIONS: _hooks, ...rest } = process.env
  const child = spawn(process.execPath, ['boot.mjs'], { cwd: folder, env: { ...rest, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return out + errors
}

/** Starts the app with a file of pg changed. */
async function bootWith (file: string, change: (source: string) => string): Promise<string> {
  const path = join(modules, 'pg', file)
  const source = await readFile(path, 'utf8')
  const changed = change(source)
  t.not(changed, source, 'the part that the test changes is there')
  await writeFile(path, changed)
  try {
    return await boot()
  } finally {
    await writeFile(path, source)
  }
}

t.test('the app starts with the pg that is installed', async (t) => {
  t.equal(await boot(), 'started\n')
})

const changes: [part: string, file: string, (source: string) => string][] = [
  ['client._getActiveQuery()', 'lib/client.js', (source) => source.replaceAll('_getActiveQuery', '_currentQuery')],
  ['client._pulseQueryQueue()', 'lib/client.js', (source) => source.replaceAll('_pulseQueryQueue', '_sendQueries')],
  ['client._types', 'lib/client.js', (source) => source.replaceAll('this._types', 'this._overrides')],
  ['client.pipeline', 'lib/client.js', (source) => source.replaceAll('this.pipeline = Boolean(c.pipeline)', 'this.pipelined = Boolean(c.pipeline)')],
  ['client.connection._emitMessage', 'lib/connection.js', (source) => source.replaceAll('_emitMessage', '_emits')],
  ['client.connection.attachListeners()', 'lib/connection.js', (source) => source.replaceAll('attachListeners', 'listenTo')],
  ['client.connection.cancel()', 'lib/connection.js', (source) => source.replaceAll('cancel(processID', 'cancelRequest(processID')],
  ['client.connection.parsedStatements', 'lib/connection.js', (source) => source.replaceAll('this.parsedStatements = {}', '')],
  ['pg.Query.prototype.handlePortalSuspended()', 'lib/query.js', (source) => source.replaceAll('handlePortalSuspended', 'handleSuspended')],
  ['pg.utils.prepareValue()', 'lib/utils.js', (source) => source.replace('prepareValue: function', 'encodeValue: function')],
  ['pg.Result', 'esm/index.mjs', (source) => source.replace(/^export default .*$/m, 'delete pg.Result\nexport default pg')]
]

t.test('a private part of pg that is not as expected stops the boot, and is named', async (t) => {
  for (const [part, file, change] of changes) {
    const output = await bootWith(file, change)
    t.match(output, /^FST_PG_SCOPE_DRIVER 500 pg 8\.\d+\.\d+ is not as expected: /, part)
    t.ok(output.includes(`\`${part}\``), output)
    t.match(output, /is missing or of another type\. This version of fastify-pg-scope works with pg 8\.23\.1 and later versions of 8: install/)
  }
})

t.test('a pg of another major version is named with its version', async (t) => {
  const manifest = join(modules, 'pg/package.json')
  const text = await readFile(manifest, 'utf8')
  await writeFile(manifest, text.replace(/"version": ".*"/, '"version": "9.0.0"'))
  const output = await bootWith('lib/client.js', (source) => source.replace('this.secretKey = null', ''))
  await writeFile(manifest, text)
  t.match(output, /^FST_PG_SCOPE_DRIVER 500 pg 9\.0\.0 is not as expected: `client\.secretKey` is missing/)
})
