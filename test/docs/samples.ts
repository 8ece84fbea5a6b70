// The blocks of TypeScript and JavaScript of the pages, and how they are compiled.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

export const root = join(import.meta.dirname, '../..')

export interface Sample { where: string, code: string, language: 'ts' | 'js' }

/** The blocks of TypeScript and JavaScript of a page, with the line where each begins. */
export function samplesOf (page: string): Sample[] {
  const text = readFileSync(join(root, page), 'utf8')
  return Array.from(text.matchAll(/^```([tj]s)\n([\s\S]*?)^```$/gm), (match) => ({
    where: `${page}:${text.slice(0, match.index).split('\n').length + 1}`,
    code: match[2]!,
    language: match[1] as Sample['language']
  }))
}

/** Pages about libraries whose packages are installed in test/ecosystem, which compiles them. */
export const ofEcosystem = ['docs/prisma.md', 'docs/nestjs.md']

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

/**
 * Compiles samples as a user would.
 *
 * @param folder where they would be: their packages are looked for from there
 * @returns what is wrong with them
 */
export function compile (samples: Sample[], folder: string, more: ts.CompilerOptions = {}): string[] {
  const files = new Map([[join(root, folder, 'world.ts'), world]])
  const byFile = new Map<string, Sample>()
  for (const [index, sample] of samples.entries()) {
    const file = join(root, folder, `sample-${index}.${sample.language}`)
    files.set(file, moduleOf(sample))
    byFile.set(file, sample)
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
    // Packages of the folder may bring a Fastify of their own, which users have once.
    paths: { ...sources(), fastify: [join(root, 'node_modules/fastify/fastify.d.ts')] },
    ...more
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (name) => files.has(name) || fileExists.call(host, name)
  host.readFile = (name) => files.get(name) ?? readFile.call(host, name)
  host.getSourceFile = (name, language, ...rest) => files.has(name)
    ? ts.createSourceFile(name, files.get(name)!, language)
    : getSourceFile.call(host, name, language, ...rest)
  const program = ts.createProgram([...files.keys()], options, host)

  return [...program.getGlobalDiagnostics(), ...Array.from(files.keys(), (name) => {
    const file = program.getSourceFile(name)
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
  }).flat()].map(({ file, start, messageText }) => {
    const line = file === undefined || start === undefined ? '' : file.text.slice(file.text.lastIndexOf('\n', start) + 1).split('\n', 1)[0]
    return `${byFile.get(file?.fileName ?? '')?.where ?? 'the world'}: ${line}\n  ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
  })
}
