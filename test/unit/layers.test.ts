// The order of the folders in lib, as CONTRIBUTING.md lists them: imports, of types too, point down and never in a
// circle.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const lib = fileURLToPath(new URL('../../lib', import.meta.url))
const layers = ['request', 'engine', 'direct', 'config', 'session', 'exchange', 'pool', 'pgbouncer', 'postgres', 'telemetry']

/** Subpath exports, which the core does not import. */
const subpaths = ['cli', 'embedded', 'idempotency', 'testing', 'drizzle', 'graphql', 'kysely', 'pg', 'prisma', 'metrics', 'otel', 'inspector']

const files = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))

/** Files by the files of lib that they import. */
const imports = new Map(files.map((file) => {
  const text = readFileSync(join(lib, file), 'utf8')
  const targets = Array.from(text.matchAll(/^(?:import|export)\b[^']*'(\.[^']+)'/gm), ([, path]) => relative(lib, join(lib, dirname(file), path!)))
  return [file, targets.filter((target) => !target.startsWith('..'))]
}))

function subpathOf (file: string): string | null {
  return subpaths.find((folder) => file.startsWith(`${folder}${sep}`)) ?? null
}

/** Higher numbers are further down. */
function depth (file: string): number {
  const [folder, inside] = file.split(sep)
  if (inside !== undefined) return layers.indexOf(folder!)
  return file === 'index.ts' ? -1 : layers.length
}

t.test('every folder of lib has its place in the order', async (t) => {
  const folders = new Set(files.filter((file) => file.includes(sep)).map((file) => file.split(sep)[0]!))
  for (const folder of subpaths) folders.delete(folder)
  t.same([...folders].sort(), [...layers].sort())
})

t.test('imports point down', async (t) => {
  for (const [file, targets] of imports) {
    if (subpathOf(file) !== null) continue
    t.same(targets.filter((target) => subpathOf(target) !== null || depth(target) < depth(file)), [], file)
  }
})

t.test('a subpath export builds on the public types and on small helpers, not on the core', async (t) => {
  for (const [file, targets] of imports) {
    const own = subpathOf(file)
    // The command is a program on top of everything: its doctor has the plugin read options. The tests above and below
    // see to it that nothing imports it.
    if (own === null || own === 'cli') continue
    const others = targets.filter((target) => target.includes(sep) && subpathOf(target) !== own)
    // Prisma's transactions are those of a library for pg. The rules of options, how a URL is read, the channels, and
    // what is known of PostgreSQL, know nothing of the core.
    const rules = ['option-rules.ts', 'connection-config.ts', 'url-hosts.ts'].map((name) => join('config', name))
    const independent = (target: string): boolean => rules.includes(target) ||
      (own === 'prisma' && target === join('pg', 'index.ts')) ||
      target.startsWith(`postgres${sep}`) || target.startsWith(`telemetry${sep}`)
    t.same(others.filter((target) => !independent(target)), [], file)
    t.notOk(targets.includes('index.ts'), file)
  }
})

t.test('no file imports itself through others', async (t) => {
  const finished = new Set<string>()
  const path: string[] = []
  const circles: string[] = []
  const visit = (file: string): void => {
    if (finished.has(file)) return
    if (path.includes(file)) {
      circles.push([...path.slice(path.indexOf(file)), file].join(' > '))
      return
    }
    path.push(file)
    for (const target of imports.get(file) ?? []) visit(target)
    path.pop()
    finished.add(file)
  }
  for (const file of files) visit(file)
  t.same(circles, [])
})

t.test('no file of lib is longer than it can be read at once', async (t) => {
  const lengths = files.map((file) => [file, readFileSync(join(lib, file), 'utf8').split('\n').length - 1] as const)
  t.same(lengths.filter(([, length]) => length > 300), [])
})

const root = join(lib, '..')

/** The TypeScript files of a folder, without what is installed or built there. */
function sourcesOf (folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !/(?:^|\/)(?:node_modules|dist)\//.test(name))
    .map((name) => join(folder, name))
}

t.test('tests, benchmarks and examples share code by the harness alone', async (t) => {
  const folders = ['test', 'harness', 'bench', 'examples']
  const permitted: Record<string, string[]> = { harness: ['lib', 'types'], test: ['lib', 'types', 'harness', 'examples', 'template'], bench: ['lib', 'types', 'harness'], examples: ['lib', 'harness'] }
  for (const file of folders.flatMap(sourcesOf).filter((file) => !file.startsWith('test/package/consumer'))) {
    const own = file.split(sep)[0]!
    const text = readFileSync(join(root, file), 'utf8')
    const targets = Array.from(text.matchAll(/(?:from|import\(|^import) ?'(\.[^']+)'/gm), ([, path]) => relative(root, join(root, dirname(file), path!)))
    t.same(targets.filter((target) => ![own, ...permitted[own]!].includes(target.split(sep)[0]!)), [], file)
  }
})

t.test('no two test files have the same name', async (t) => {
  const names = ['test', 'bench', 'examples'].flatMap(sourcesOf).filter((file) => file.endsWith('.test.ts')).map((file) => basename(file))
  t.same(names.filter((name, index) => names.indexOf(name) !== index), [])
})
