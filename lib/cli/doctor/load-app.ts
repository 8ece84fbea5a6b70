import { Server } from 'node:net'
import { extname } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import type { PgScopeOptions } from '../../../types/options.ts'
import { isPlainObject } from '../../kind-of.ts'

/** The exports that may be the app, in the order in which they are looked for. */
const names = ['default', 'app', 'buildApp', 'build', 'options']

export type Exported =
  | { readonly kind: 'app', readonly app: FastifyInstance }
  | { readonly kind: 'options', readonly options: PgScopeOptions }

/** No server of HTTP, HTTPS or HTTP/2 opens a port from now on, whatever the module does. */
export function refuseToListen (onRefused: () => void): void {
  const { listen } = Server.prototype
  Server.prototype.listen = function (this: Server, ...args: unknown[]) {
    // Other servers may be needed: to find a free port for a database, for example.
    if (this.listenerCount('request') === 0) return listen.apply(this, args as never)
    onRefused()
    throw new Error('fastify-pg-scope doctor opens no port')
  }
}

/** @throws Error that says what the module exports, or why it could not be loaded */
export async function loadApp (file: string): Promise<Exported> {
  const module = await importModule(file)
  const exported = findExport(module)
  if (exported === undefined) {
    const list = Object.keys(module).filter((name) => name !== 'module.exports').join(', ') || 'nothing'
    throw new Error(`${file} exports ${list}. Export the Fastify app, a function that returns it, or the plugin's ` +
      `options, as one of ${names.join(', ')}`)
  }
  // An instance is a plain object, too.
  if (isFastify(exported)) return { kind: 'app', app: exported }
  if (isPlainObject(exported)) return { kind: 'options', options: exported }
  return { kind: 'app', app: await build(exported as Builder, file) }
}

type Builder = (...args: unknown[]) => unknown

async function build (builder: Builder, file: string): Promise<FastifyInstance> {
  if (isPlugin(builder)) {
    const app = Fastify()
    app.register(builder as never)
    return app
  }
  const built = await builder({})
  if (isFastify(built)) return built
  throw new Error(`The function that ${file} exports returned no Fastify instance. Return the app, before it listens`)
}

/** fastify-plugin marks its functions; @fastify/autoload and fastify-cli call a function of an instance and options. */
function isPlugin (builder: Builder): boolean {
  return Symbol.for('skip-override') in builder || builder.length >= 2
}

function isFastify (value: unknown): value is FastifyInstance {
  const { ready, register, inject } = (value ?? {}) as Record<string, unknown>
  return [ready, register, inject].every((method) => typeof method === 'function')
}

function findExport (module: Record<string, unknown>): unknown {
  const inner = module.default
  const exports = isPlainObject(inner) && isNamespace(inner) ? inner : module
  return names.map((name) => exports[name])
    .find((value) => typeof value === 'function' || isFastify(value) || isPlainObject(value))
}

/** `module.exports = { build }`, and what TypeScript compiles to CommonJS, have their exports one level deeper. */
function isNamespace (value: Record<string, unknown>): boolean {
  if (isFastify(value)) return false
  return names.some((name) => typeof value[name] === 'function' || isPlainObject(value[name]))
}

async function importModule (file: string): Promise<Record<string, unknown>> {
  try {
    return await import(pathToFileURL(file).href)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_UNKNOWN_FILE_EXTENSION' && /^\.[cm]?ts$/.test(extname(file))) {
      throw new Error(`Node ${process.versions.node} does not run TypeScript by itself: set ` +
        'NODE_OPTIONS="--import tsx", or use Node 22.18 or later')
    }
    throw error
  }
}
