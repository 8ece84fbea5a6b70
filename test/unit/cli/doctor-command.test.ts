import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { readDoctorArguments } from '../../../lib/cli/doctor/doctor-arguments.ts'
import { loadApp } from '../../../lib/cli/doctor/load-app.ts'
import { temporaryFolder } from '../../../harness/folders.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { poolerOfVariant } from '../../../harness/variant.ts'

// As built: `npm test` builds first.
const root = join(import.meta.dirname, '../../..')
const program = join(root, 'dist/lib/cli/index.js')
t.setTimeout(500_000)
/** Whether this Node runs TypeScript by itself. */
const { typescript } = process.features as { typescript?: string | false }
const db = await startTestPostgres(t, { password: 's3cret', settings: { max_connections: 100 } })
const folder = await temporaryFolder(t)
await mkdir(join(folder, 'node_modules'))
for (const name of ['fastify', 'fastify-plugin']) await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name))
await symlink(root, join(folder, 'node_modules/fastify-pg-scope'))
await writeFile(join(folder, 'package.json'), '{ "name": "my-app", "type": "module" }')

interface Ended { code: number | null, out: string, errors: string }

async function doctor (args: string[], env: Record<string, string> = {}): Promise<Ended> {
  const { NODE_OPTIONS: _hooks, DATABASE_URL: _url, ...rest } = process.env
  const child = spawn(process.execPath, [program, 'doctor', ...args], {
    cwd: folder, env: { ...rest, ...env }, stdio: ['ignore', 'pipe', 'pipe']
  })
  const [out, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  t.notMatch(out + errors, /s3cret|wr0ng/, 'no password')
  return { code, out, errors }
}

t.test('arguments that cannot be meant are refused with what is allowed, and processes come from the environment', async (t) => {
  const cases: [string[], RegExp][] = [
    [['postgres://a', 'postgres://b'], /takes one URL, got 2/],
    [['', '--json'], /must not be an empty string/],
    [['postgres://h/d', '--app', 'nothing.js'], /exclude each other/],
    [['--processes', '0'], /`--processes` must be an integer ≥ 1, got "0"/],
    [['--processes=two'], /must be an integer ≥ 1/],
    [['--processes'], /`--processes` needs a value/],
    [['--app='], /`--app` needs a value/],
    [['--json=1'], /`--json` takes no value/],
    [['--fix'], /`doctor` has no option `--fix`\. Allowed: --app, --admin/],
    [['-x'], /has no option `-x`/]
  ]
  for (const [args, message] of cases) t.throws(() => readDoctorArguments(args, {}), { message, status: 3 }, args.join(' '))
  const processes = (env: NodeJS.ProcessEnv, ...args: string[]): number => readDoctorArguments(args, env).processes
  t.same([processes({}), processes({ WEB_CONCURRENCY: '4' }), processes({ WEB_CONCURRENCY: 'auto' })], [1, 4, 1])
  t.equal(processes({ WEB_CONCURRENCY: '4' }, '--processes', '2'), 2)
  t.match(readDoctorArguments(['--json', 'postgres://h/d'], {}), { json: true, url: 'postgres://h/d', app: undefined, help: false })
})

t.test('what the doctor cannot work with ends with status 3 and says why', async (t) => {
  await writeFile(join(folder, 'nothing.js'), 'export const port = 3000')
  await writeFile(join(folder, 'broken.js'), 'throw new Error("cannot read postgres://me:s3cret@host/x")')
  await writeFile(join(folder, 'without.js'), 'import Fastify from "fastify"\nexport default () => Fastify()')
  await writeFile(join(folder, 'exits.js'), 'process.exit(7)')
  await writeFile(join(folder, 'listens.js'), 'import Fastify from "fastify"\nconst app = Fastify()\nawait app.listen({ port: 0 })\nexport default app')
  await writeFile(join(folder, 'wrong.js'), 'export const options = { pool: { max: 0 } }')
  await writeFile(join(folder, 'object.js'), 'export default () => 1')
  const cases: [string[], RegExp][] = [
    [[], /No connection is given: pass `connectionString`/],
    [['postgres://h/d', '--admin', 'http://me:s3cret@h'], /`--admin` must be a URL/],
    [['--app', 'absent.js'], /there is no file absent\.js/],
    [['--app', 'broken.js'], /cannot read postgres:\/\/me:\*\*\*@host/],
    [['--app', 'without.js'], /The app of without\.js does not register fastify-pg-scope/],
    [['--app', 'exits.js'], /ended its process \(status 7\)/],
    [['--app', 'listens.js'], /listens on a port/],
    [['--app', 'wrong.js'], /`pool\.max` must be an integer ≥ 1, got 0/]
  ]
  await Promise.all(cases.map(async ([args, message]) => {
    t.match(await doctor(args), { code: 3, out: '', errors: message }, args.join(' '))
  }))
  await t.rejects(loadApp(join(folder, 'nothing.js')), { message: /nothing\.js exports port\. Export the Fastify app/ })
  await t.rejects(loadApp(join(folder, 'object.js')), { message: /returned no Fastify instance/ })
  const { code, out } = await doctor(['--help'])
  t.match({ code, out }, { code: 0, out: /--app[^]*--admin[^]*--processes[^]*--json[^]*Exit status/ })
})

const direct = await poolerOfVariant() === null ? t : { test: () => {} }

direct.test('the report is a table for people, and stable JSON for machines, and the status is that of the worst', async (t) => {
  const people = await doctor([db.connectionString])
  t.match(people, { code: 0, errors: '', out: /^app\.db: database "postgres" on 127\.0\.0\.1:\d+ as user "postgres", options from the URL\nDirect connection to PostgreSQL \d+\.\d+; 1 process × pool\.max 10\n\nNothing to report\.\n$/ })
  const json = await doctor(['--json', '--processes', '5'], { DATABASE_URL: db.connectionString })
  t.equal(json.code, 1)
  t.match(JSON.parse(json.out), {
    version: 1,
    status: 1,
    reports: [{
      decorator: 'db',
      source: 'the environment',
      target: { host: '127.0.0.1', port: db.port, database: 'postgres', user: 'postgres' },
      pooler: { kind: 'none' },
      server: /^\d+\.\d+$/,
      processes: 5,
      poolMax: 10,
      findings: [{ id: 'max-connections', severity: 'warning', found: /5 processes × pool\.max 10 = 50 connections, 100 while/, why: String, change: { where: 'postgresql.conf', line: /max_connections = 103, or pool: \{ max: 9 \}/ } }],
      notChecked: []
    }]
  })
  const table = await doctor([db.connectionString], { WEB_CONCURRENCY: '20' })
  t.match(table, { code: 2, out: /^ERROR {5}max-connections: 20 processes[^]*\n {10}Why: [^]*\n {10}Change: postgresql\.conf: [^]*\n1 error, 0 warnings, 0 notes\n$/m })
  t.ok(table.out.split('\n').slice(1).every((line) => line.length <= 100))
})

direct.test('a wrong password is a finding, and no message shows it', async (t) => {
  const url = db.connectionString.replace(':s3cret@', ':wr0ng@')
  const { code, out } = await doctor([url, '--json'])
  t.equal(code, 2)
  t.match(JSON.parse(out).reports[0], { server: null, pooler: { kind: 'unreached' }, findings: [{ id: 'connection', severity: 'error', found: /refused the login/ }] })
})

direct.test('an app is read by its own options, whatever it exports, and its output stays out of the way', async (t) => {
  const register = 'await app.register(pgScope, { connectionString: process.env.URL, idleInTransactionTimeout: 0, pool: { max: 3 } })'
  const head = 'import Fastify from "fastify"\nimport pgScope from "fastify-pg-scope"\n'
  const files: Record<string, string> = {
    'instance.js': `${head}const app = Fastify({ logger: true })\n${register}\nconsole.log("started")\nexport default app`,
    'inside.js': `${head}export const app = Fastify()\napp.register(async (app) => { ${register} })`,
    'required.cjs': 'exports.build = function () { const app = require("fastify")()\napp.register(require("fastify-pg-scope"), { connectionString: process.env.URL, idleInTransactionTimeout: 0, pool: { max: 3 } })\nreturn app }',
    'fails.js': `${head}export const app = Fastify()\napp.register(async (app) => { ${register} })\napp.addHook("onReady", async () => { throw new Error("no cache") })`,
    'options.js': 'export const options = { connectionString: process.env.URL, idleInTransactionTimeout: 0, pool: { max: 3 } }'
  }
  if (typescript) files['typed.ts'] = `${head}const app: unknown = Fastify()\nasync function start (app: any): Promise<void> { ${register} }\nawait start(app)\nexport default app`
  await Promise.all(Object.entries(files).map(async ([name, source]) => {
    await writeFile(join(folder, name), source)
    const { code, out, errors } = await doctor(['--app', name, '--json'], { URL: db.connectionString })
    const { findings, ...report } = JSON.parse(out).reports[0]
    t.match(report, { source: name, decorator: 'db', poolMax: 3, target: { port: db.port } }, errors)
    const ids = findings.map(({ id }: { id: string }) => id)
    t.same(ids, [...(name === 'fails.js' ? ['app-start'] : []), 'idle-in-transaction-timeout'], name)
    t.equal(code, name === 'fails.js' ? 2 : 1)
  }))
})

t.test('an app may be exported as an instance, a function that builds it, a plugin, or options', async (t) => {
  const head = 'import Fastify from "fastify"\n'
  const files: Record<string, string> = {
    'app-default.js': `${head}export default Fastify()`,
    'app-named.js': `${head}export const app = Fastify()`,
    'app-built.js': `${head}export const buildApp = (options) => Fastify(options)`,
    'app-promised.js': `${head}export default async () => Fastify()`,
    'app-plugin.js': 'export default async function (app, options) { app.decorate("found", true) }',
    'app-fp.js': 'import fp from "fastify-plugin"\nexport default fp(async (app) => { app.decorate("found", true) })',
    'app-common.cjs': 'module.exports = { build: () => require("fastify")() }',
    'app-options.cjs': 'module.exports = { app: require("fastify")(), port: 3000 }',
    'app-compiled.cjs': 'Object.defineProperty(exports, "__esModule", { value: true })\nexports.default = require("fastify")()'
  }
  for (const [name, source] of Object.entries(files)) {
    await writeFile(join(folder, name), source)
    const loaded = await loadApp(join(folder, name))
    t.equal(loaded.kind, 'app', name)
    if (loaded.kind !== 'app') continue
    await loaded.app.ready()
    t.equal(loaded.app.hasDecorator('found'), /plugin|fp/.test(name) ? name === 'app-fp.js' : false)
    await loaded.app.close()
  }
  await writeFile(join(folder, 'app-options.js'), 'export default { host: "db", pool: { max: 3 } }')
  t.same(await loadApp(join(folder, 'app-options.js')), { kind: 'options', options: { host: 'db', pool: { max: 3 } } })
})

direct.test('each engine of an app has a report, also when the server of one is down', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  await new Promise((resolve) => probe.close(resolve))
  await writeFile(join(folder, 'two.js'), 'import Fastify from "fastify"\nimport pgScope from "fastify-pg-scope"\nexport const app = Fastify()\n' +
    'app.register(pgScope, { connectionString: process.env.URL })\n' +
    `app.register(pgScope, { host: "127.0.0.1", port: ${port}, user: "me", password: "s3cret", database: "reports", decorator: "reporting" })`)
  const { code, out } = await doctor(['--app', 'two.js', '--json'], { URL: db.connectionString })
  t.equal(code, 2)
  t.match(JSON.parse(out).reports, [
    { decorator: 'db', server: String, findings: [{ id: 'app-start' }] },
    { decorator: 'reporting', server: null, findings: [{ id: 'connection', found: /ECONNREFUSED/ }] }
  ])
})

t.test('the app that `init` writes can be read, with the database that it starts itself', async (t) => {
  const path = typescript ? {} : { NODE_OPTIONS: `--import ${import.meta.resolve('tsx')}` }
  const { code, out, errors } = await doctor(['--app', join(root, 'examples/starter/src/app.ts'), '--json'], { LOG_LEVEL: 'info', ...path })
  t.equal(code, 0, errors)
  t.match(JSON.parse(out).reports, [{ target: { database: 'bank' }, pooler: { kind: 'none' }, findings: [] }])
})
