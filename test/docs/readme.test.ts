import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import ts from 'typescript'
import type { FastifyInstance } from 'fastify'
import { startTestPostgres } from '../../harness/postgres.ts'

const root = join(import.meta.dirname, '../..')
const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]

interface Sample { where: string, code: string, language: 'ts' | 'js' }

/** The blocks of TypeScript and JavaScript of a page, with the line where each begins. */
function samplesOf (page: string): Sample[] {
  const text = readFileSync(join(root, page), 'utf8')
  return Array.from(text.matchAll(/^```([tj]s)\n([\s\S]*?)^```$/gm), (match) => ({
    where: `${page}:${text.slice(0, match.index).split('\n').length + 1}`,
    code: match[2]!,
    language: match[1] as Sample['language']
  }))
}

/** What the samples take for granted: the names that the text around them speaks of. */
const world = `
import type { EventEmitter } from 'node:events'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type * as scope from 'fastify-pg-scope'
declare global {
  type Session = scope.Session
  var pgScope: typeof scope.default
  var app: FastifyInstance
  var request: FastifyRequest
  var reply: FastifyReply
  var db: Session
  var debit: (db: Session, id: number, amount: number) => Promise<void>
  var events: EventEmitter
  var queue: (() => void)[]
  var total: number
}
`

/** The exports of the package by the name that a user writes, and the file of lib behind each. */
function sources (): Record<string, [string]> {
  const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const code = Object.entries<{ types?: string }>(exports).filter(([, { types }]) => types !== undefined)
  return Object.fromEntries(code.map(([path, { types }]) => [
    join(name, path), [join(root, types!.replace('dist/', '').replace('.d.ts', '.ts'))]
  ]))
}

/** Imports and declarations stay at the top; the rest may await and return, as in a handler. */
function moduleOf ({ code, language }: Sample): string {
  const top = /^(?:import .*|declare module [\s\S]*?^\})$/gm
  return `${(code.match(top) ?? []).join('\n')}\nexport async function sample ()${language === 'ts' ? ': Promise<any>' : ''} {\n${code.replaceAll(top, '')}\n}\n`
}

t.test('every sample of the README and of the docs compiles as a user would compile it', async (t) => {
  const files = new Map([[join(root, 'test/docs/world.ts'), world]])
  const samples = new Map<string, Sample>()
  for (const [index, sample] of pages.flatMap(samplesOf).entries()) {
    const file = join(root, `test/docs/sample-${index}.${sample.language}`)
    files.set(file, moduleOf(sample))
    samples.set(file, sample)
  }
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
    strict: true,
    skipLibCheck: true,
    allowJs: true,
    checkJs: true,
    allowImportingTsExtensions: true,
    noEmit: true,
    paths: sources()
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (name) => files.has(name) || fileExists.call(host, name)
  host.readFile = (name) => files.get(name) ?? readFile.call(host, name)
  host.getSourceFile = (name, language, ...rest) => files.has(name)
    ? ts.createSourceFile(name, files.get(name)!, language)
    : getSourceFile.call(host, name, language, ...rest)
  const program = ts.createProgram([...files.keys()], options, host)

  const wrong = [...program.getGlobalDiagnostics(), ...Array.from(files.keys(), (name) => {
    const file = program.getSourceFile(name)
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
  }).flat()].map(({ file, start, messageText }) => {
    const line = file === undefined || start === undefined ? '' : file.text.slice(file.text.lastIndexOf('\n', start) + 1).split('\n', 1)[0]
    return `${samples.get(file?.fileName ?? '')?.where ?? 'the world'}: ${line}\n  ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
  })
  t.same(wrong, [])
  t.ok(samples.size > 20, 'samples were found')
})

t.test('the quick start of the README works as it is written, with the output that it shows', async (t) => {
  const postgres = await startTestPostgres(t)
  const { code } = samplesOf('README.md')[0]!
  const folder = t.testdir({
    'server.ts': `${code
      .replace('\'fastify-pg-scope\'', JSON.stringify(pathToFileURL(join(root, 'lib/index.ts')).href))
      .replace('logger: true', 'logger: false')
      .replace('port: 3000', 'port: 0')}\nexport { app }\n`
  })
  process.env.DATABASE_URL = postgres.connectionString
  t.teardown(() => { delete process.env.DATABASE_URL })

  const { app } = await import(pathToFileURL(join(folder, 'server.ts')).href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const commands = Array.from(readme.matchAll(/^\$ curl http:\/\/127\.0\.0\.1:3000(\S+)(?: -H '([\w-]+): (\S+)' -d '(.*)')?\n(.*)$/gm))
  t.equal(commands.length, 3)
  for (const [command, url, name, value, payload, output] of commands) {
    const response = await app.inject(payload === undefined
      ? { url: url! }
      : { url: url!, method: 'POST', headers: { [name!]: value! }, payload })
    t.equal(response.body, output!, command!)
  }
})

t.test('the README is short, and its links lead to files of the package, so that they work where it is installed', async (t) => {
  const text = readFileSync(join(root, 'README.md'), 'utf8')
  t.ok(text.split('\n').length < 265, `${text.split('\n').length} lines`)
  const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] }
  t.ok(files.includes('docs/*.{md,svg,ini}'))
  const links = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#]*)/g), ([, path]) => path!)
  t.ok(links.length > 10)
  t.same(links.filter((path) => !/^docs\/[\w-]+\.(?:md|svg|ini)$/.test(path)), [])
})

t.test('every error has a section, and every link between the pages leads somewhere', async (t) => {
  const anchors = new Map(pages.map((page) => [page, new Set(Array.from(readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm), (match) => match[1]!.toLowerCase().replaceAll(/[^\w\s-]/g, '').replaceAll(' ', '-')))]))
  const errors = readFileSync(join(root, 'lib/errors.ts'), 'utf8').match(/^ {2}FST_PG_SCOPE_\w+(?=: \d)/gm)!.map((code) => code.trim().toLowerCase())
  t.same(errors.filter((code) => !anchors.get('docs/errors.md')!.has(code)), [])

  const broken = pages.flatMap((page) => Array.from(readFileSync(join(root, page), 'utf8').matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g), ([link, path, anchor]) => {
    const target = path === '' ? page : join(page, '..', path!)
    if (!anchors.has(target)) return existsSync(join(root, target)) ? '' : `${page}: ${link}`
    return anchor !== undefined && !anchors.get(target)!.has(anchor) ? `${page}: ${link}` : ''
  })).filter((link) => link !== '')
  t.same(broken, [])
})

t.test('every test that a page names is there under that name', async (t) => {
  const named = pages.flatMap((page) => Array.from(readFileSync(join(root, page), 'utf8').matchAll(/`([\w/-]+)(?:\.test)?(?:\.ts)?`: ("[^"]+"(?:,? (?:and )?"[^"]+")*)/g), ([, file, names]) =>
    Array.from(names!.matchAll(/"([^"]+)"/g), ([, name]) => ({ page, file: file!, name: name! }))).flat())
  const missing = named.filter(({ file, name }) => {
    const path = [`test/integration/${file}.test.ts`, `test/integration/${file}.ts`, `${file}.test.ts`].map((path) => join(root, path)).find(existsSync)
    // What differs from case to case stands as … on the page, and in the source as a template's placeholder.
    const parts = name.split('…').map((part) => part.trim())
    return path === undefined || !readFileSync(path, 'utf8').replaceAll("\\'", "'").split('\n').some((line) => parts.every((part) => line.includes(part)))
  })
  t.same(missing, [])
  t.ok(named.length > 20, 'names were found')
})
