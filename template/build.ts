// Writes dist/template, which `fastify-pg-scope init` copies from: the files of examples/starter and of the folders
// here, as TypeScript and as JavaScript. A folder beside `base` has what an option replaces or adds.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { edit, edits } from './edits.ts'
import { stripTypes } from './strip-types.ts'

const root = join(import.meta.dirname, '..')
const target = join(root, 'dist/template')
const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: Record<string, string> }
const ecosystem = JSON.parse(read('test/ecosystem/package.json')) as { dependencies: Record<string, string> }

const sources = {
  base: 'examples/starter',
  kysely: 'template/kysely',
  drizzle: 'template/drizzle',
  prisma: 'template/prisma',
  pgbouncer: 'template/pgbouncer'
}
/** What the repository needs in these folders, or what installing and running leave there. */
const left = /^(?:node_modules|data|dist|\.env|\.tap|package-lock\.json)(?:\/|$)/
/** What only TypeScript needs. */
const forTypeScript = ['@fastify/type-provider-typebox', '@types/node', 'tsx', 'typescript']

rmSync(target, { recursive: true, force: true })
for (const [part, folder] of Object.entries(sources)) {
  for (const file of filesOf(folder)) {
    if (file === 'package.json') writeManifests(part, folder)
    else writeFile(part, file, read(join(folder, file)))
  }
  for (const [file, pieces] of Object.entries(edits[part] ?? {})) {
    writeFile(part, file, edit(read(join(sources.base, file)), pieces))
  }
}
for (const language of ['typescript', 'javascript']) {
  write(join(language, 'kysely/package.json'), addedDependency('kysely'))
  write(join(language, 'drizzle/package.json'), addedDependency('drizzle-orm'))
  write(join(language, 'prisma/package.json'), prismaManifest())
  write(join(language, 'pgbouncer/pgbouncer/pgbouncer.ini'), composedPgBouncer())
}

function filesOf (folder: string): string[] {
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(join(root, folder).length + 1).replaceAll('\\', '/'))
    .filter((file) => !left.test(file) && !(folder !== sources.base && file === 'tsconfig.json'))
}

/** In both languages. */
function writeFile (part: string, file: string, text: string): void {
  // npm leaves a file of this name out of a package.
  const path = file === '.gitignore' ? 'gitignore' : file
  write(join('typescript', part, path), text)
  if (file === 'tsconfig.json' || file === 'typescript.js') return
  if (file.endsWith('.ts')) write(join('javascript', part, path.replace(/\.ts$/, '.js')), inJavaScript(text))
  else if (file.endsWith('.prisma')) write(join('javascript', part, path), withJavaScriptClient(text))
  else write(join('javascript', part, path), withoutTypeScript(text))
}

function writeManifests (part: string, folder: string): void {
  write(join('typescript', part, 'package.json'), manifest(folder))
  write(join('javascript', part, 'package.json'), manifest(folder, true))
}

function inJavaScript (text: string): string {
  return stripTypes(text).replace('/generated/client.js', '/generated/index.js')
}

/** Of Prisma's generators `prisma-client` writes TypeScript only. */
function withJavaScriptClient (schema: string): string {
  const [before, , ...after] = schema.split(/^(generator client \{[^}]*\})$/m)
  const generator = 'generator client {\n  provider = "prisma-client-js"\n  output   = "../src/generated"\n}'
  return `${before}${generator}${after.join('')}`
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

/** Of the same version, from which the tests write a client, too. */
function prismaManifest (): string {
  return asJson({
    scripts: { postinstall: 'prisma generate', generate: 'prisma generate' },
    // Also `npm ci --omit=dev` runs the script that writes the client.
    dependencies: {
      '@prisma/client': ecosystem.dependencies['@prisma/client'],
      prisma: ecosystem.dependencies.prisma
    }
  })
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
