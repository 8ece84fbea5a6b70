import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const require = createRequire(import.meta.url)
const folder = fileURLToPath(new URL('../../node_modules/.cache/fastify-pg-scope/', import.meta.url))
const { version } = require('typescript/package.json')
mkdirSync(folder, { recursive: true })

// `npm run lanes`: these packages are imported from another folder.
const lane = process.env.PG_SCOPE_TEST_LANE && join(process.env.PG_SCOPE_TEST_LANE, 'package.json')
const replaced = lane ? Object.keys(JSON.parse(readFileSync(lane, 'utf8')).dependencies) : []

export async function resolve (specifier, context, next) {
  if (!replaced.includes(specifier.split('/')[0])) return next(specifier, context)
  return next(specifier, { ...context, parentURL: pathToFileURL(lane).href })
}

export async function load (url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const path = fileURLToPath(url)
  const text = readFileSync(path, 'utf8')
  const cached = `${folder}${createHash('sha256').update([version, path, text].join('\0')).digest('hex')}.js`
  return { format: 'module', source: read(cached) ?? write(cached, transpile(path, text)), shortCircuit: true }
}

function read (file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

function transpile (path, text) {
  const ts = require('typescript')
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true, inlineSourceMap: true }
  return ts.transpileModule(text, { fileName: path, compilerOptions }).outputText
}

/** Renamed into place: another process may want the same file at the same time. */
function write (file, text) {
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, text)
  renameSync(draft, file)
  return text
}
