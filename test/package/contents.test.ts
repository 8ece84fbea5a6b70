import { createRequire } from 'node:module'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../../harness/folders.ts'
import { install, pack, root, run } from './tarball.ts'

const require = createRequire(import.meta.url)
t.setTimeout(500_000)
const folder = await temporaryFolder(t)
const tarball = await pack(folder)
const installed = await install(tarball, folder, [])
const files = (await run('tar', ['-tzf', tarball], folder)).trim().split('\n').map(path => path.replace(/^package\//, '')).sort()
const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))

t.test('the tarball holds what was built from lib and types, their sources, and a few pages', async t => {
  const pages = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']
  t.same(files.filter(path => !path.includes('/')), pages)
  t.same(new Set(files.filter(path => path.includes('/')).map(path => /^dist\/(lib|types|template)(?=\/)|^(lib|types|docs)(?=\/)/.exec(path)?.[0] ?? path)),
    new Set(['dist/lib', 'dist/types', 'dist/template', 'lib', 'types', 'docs']))
  const sources = files.filter(path => /^(lib|types)\//.test(path))
  t.ok(sources.includes('lib/index.ts'))
  t.same(sources.filter(path => !path.endsWith('.ts')), [])
  const built = sources.flatMap(path => ['.d.ts', '.d.ts.map', '.js', '.js.map'].map(end => `dist/${path.slice(0, -3)}${end}`))
  t.same(files.filter(path => /^dist\/(lib|types)\//.test(path)), built.sort(), 'each source is built, and nothing without a source is left from an earlier build')
})

t.test('every file that package.json names is there, and so is every source that a map names', async t => {
  const named: string[] = [manifest.main, manifest.types, ...Object.values<string>(manifest.bin).map(path => `./${path}`), ...Object.values(manifest.exports).flatMap(entry => typeof entry === 'string' ? entry : Object.values(entry as object))]
  for (const path of named) t.ok(files.includes(path.slice(2)), path)
  const broken: string[] = []
  for (const path of files.filter(path => path.endsWith('.map'))) {
    const { sources } = JSON.parse(await readFile(join(installed, path), 'utf8'))
    for (const source of sources) if (!files.includes(join(dirname(path), source))) broken.push(`${path}: ${source}`)
  }
  t.same(broken, [])
})

t.test('no page or program in it tells where it was made', async t => {
  const telling: string[] = []
  for (const path of files) if ((await readFile(join(installed, path), 'utf8')).includes(root)) telling.push(path)
  t.same(telling, [])
})

t.test("the declarations keep Fastify's augmentation", async t => {
  t.match(await readFile(join(installed, 'dist/lib/index.d.ts'), 'utf8'), /^import '\.\.\/types\/fastify\./m)
})

t.test('publint finds nothing to say', async t => {
  t.match(await run(process.execPath, [bin('publint'), 'run', '--strict', tarball], folder), /All good!/)
})

t.test('the types resolve for ES modules and bundlers, and for CommonJS by require(esm)', async t => {
  const report = await run(process.execPath, [bin('@arethetypeswrong/cli'), tarball, '--profile', 'esm-only', '--format', 'json'], folder)
  const { analysis } = JSON.parse(report)
  t.same(Object.keys(analysis.entrypoints).sort(), Object.keys(manifest.exports).sort())
  // node10 knows no exports; that a require() resolves to an ES module is what Node supports since 20.19 and 22.12.
  const serious = analysis.problems.filter((problem: { kind: string, resolutionKind?: string }) => problem.kind !== 'CJSResolvesToESM' && problem.resolutionKind !== 'node10')
  t.same(serious, [])
})

/** The program of a package; some do not let their package.json be imported, but all have it. */
function bin (name: string): string {
  const home = join(root, 'node_modules', name)
  const { bin } = require(join(home, 'package.json'))
  return join(home, typeof bin === 'string' ? bin : Object.values(bin as Record<string, string>)[0] as string)
}
