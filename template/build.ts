// Writes dist/template, which `fastify-pg-scope init` copies from: the files of examples/starter and of the folders
// here, as TypeScript and as JavaScript. A folder beside `base` has what an option replaces or adds.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { stripTypes } from './strip-types.ts'

const root = join(import.meta.dirname, '..')
const target = join(root, 'dist/template')
const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: Record<string, string> }

const sources = { base: 'examples/starter', kysely: 'template/kysely', drizzle: 'template/drizzle', pgbouncer: 'template/pgbouncer' }
/** What the repository needs in these folders, or what installing and running leave there. */
const left = /^(?:node_modules|data|dist|\.env|\.tap|package-lock\.json)(?:\/|$)/
/** What only TypeScript needs. */
const forTypeScript = ['@fastify/type-provider-typebox', '@types/node', 'tsx', 'typescript']

rmSync(target, { recursive: true, force: true })
for (const [part, folder] of Object.entries(sources)) {
  for (const file of filesOf(folder)) {
    // npm leaves a file of this name out of a package.
    const path = file === '.gitignore' ? 'gitignore' : file
    write(join('typescript', part, path), file === 'package.json' ? manifest(folder) : read(join(folder, file)))
    const [newPath, text] = inJavaScript(folder, file)
    if (text !== null) write(join('javascript', part, newPath === '.gitignore' ? 'gitignore' : newPath), text)
  }
}
for (const language of ['typescript', 'javascript']) {
  write(join(language, 'kysely/package.json'), addedDependency('kysely'))
  write(join(language, 'drizzle/package.json'), addedDependency('drizzle-orm'))
  write(join(language, 'pgbouncer/pgbouncer/pgbouncer.ini'), composedPgBouncer())
}

function filesOf (folder: string): string[] {
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(join(root, folder).length + 1).replaceAll('\\', '/'))
    .filter((file) => !left.test(file) && !(folder !== sources.base && file === 'tsconfig.json'))
}

/** @returns null for a file that JavaScript does not need */
function inJavaScript (folder: string, file: string): [path: string, text: string | null] {
  const text = read(join(folder, file))
  if (file === 'tsconfig.json' || file === 'typescript.js') return [file, null]
  if (file === 'package.json') return [file, manifest(folder, true)]
  if (file.endsWith('.ts')) return [file.replace(/\.ts$/, '.js'), stripTypes(text)]
  return [file, withoutTypeScript(text)]
}

/** Names of files change, and lines about TypeScript are left out. */
function withoutTypeScript (text: string): string {
  return text.split('\n').filter((line) => !/typescript|typecheck/i.test(line)).join('\n').replaceAll(/\.ts\b/g, '.js')
}

function manifest (folder: string, javaScript = false): string {
  const { scripts, dependencies, devDependencies, ...rest } = JSON.parse(read(join(folder, 'package.json')))
  if (javaScript) {
    delete scripts.typecheck
    for (const name in scripts) scripts[name] = scripts[name].replace('--import ./typescript.js ', '').replaceAll(/\.ts\b/g, '.js')
    for (const name of forTypeScript) delete devDependencies[name]
  }
  return asJson({ ...rest, scripts, dependencies, devDependencies })
}

function addedDependency (name: string): string {
  return asJson({ dependencies: { [name]: devDependencies[name] } })
}

/** docs/pgbouncer.ini with the addresses of compose.yaml. */
function composedPgBouncer (): string {
  return read('docs/pgbouncer.ini')
    .replace('* = host=127.0.0.1 port=5432', '* = host=postgres port=5432')
    .replace('listen_addr = 127.0.0.1', 'listen_addr = *')
}

function asJson (value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

function read (path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

function write (path: string, text: string): void {
  mkdirSync(dirname(join(target, path)), { recursive: true })
  writeFileSync(join(target, path), text)
}
