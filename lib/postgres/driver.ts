import { createRequire } from 'node:module'
import pg from 'pg'
import { pgScopeError } from '../errors.ts'

type Fields = Record<string, unknown>

/** The methods of pg's own query that its client calls on a batch, and that a batch has of its own or inherits. */
const queryMethods = [
  'submit', 'handleRowDescription', 'handleDataRow', 'handleCommandComplete', 'handleEmptyQuery', 'handleError',
  'handleReadyForQuery', 'handlePortalSuspended', 'handleCopyInResponse', 'handleCopyData'
]

const connectionMethods = ['connect', 'requestSsl', 'cancel', 'attachListeners', 'sendCopyFail', 'on', 'sync']

/**
 * Checks the private parts of pg that this package uses. docs/architecture.md says where and why.
 *
 * @throws FST_PG_SCOPE_DRIVER naming those that are not as expected
 */
export function checkDriver (): void {
  const missing = missingParts(pg)
  if (missing.length === 0) return
  const list = missing.map((part) => `\`${part}\``).join(', ')
  const native = process.env.NODE_PG_FORCE_NATIVE ? ' NODE_PG_FORCE_NATIVE is set, which replaces it: unset it.' : ''
  throw pgScopeError('FST_PG_SCOPE_DRIVER', `pg ${version()} is not as expected: ${list} ` +
    `${missing.length === 1 ? 'is' : 'are'} missing or of another type.${native} This version of fastify-pg-scope ` +
    'works with pg 8.23.1 and later versions of 8: install one of them (npm install pg@8), or a newer ' +
    'fastify-pg-scope.')
}

function missingParts (driver: typeof pg): string[] {
  const { Client, Query, Connection, Result, utils } = driver as unknown as Fields
  const missing: string[] = []
  const expect = (part: string, holds: boolean): void => { if (!holds) missing.push(part) }
  const isFunction = (value: unknown): boolean => typeof value === 'function'
  expect('pg.Connection', isFunction(Connection))
  expect('pg.Result', isFunction(Result))
  expect('pg.utils.prepareValue()', isFunction((utils as Fields | undefined)?.prepareValue))
  expect('pg.Query', isFunction(Query))
  const query = (Query as { prototype?: Fields } | undefined)?.prototype ?? {}
  for (const name of queryMethods) expect(`pg.Query.prototype.${name}()`, isFunction(query[name]))
  if (!isFunction(Client)) return [...missing, 'pg.Client']
  // Both fields, because what the environment says of TLS may contradict itself.
  const client = new (Client as new (config: object) => Fields)({ ssl: false, sslnegotiation: 'postgres' })
  expect('client._getActiveQuery()', isFunction(client._getActiveQuery))
  expect('client.getStartupConf()', isFunction(client.getStartupConf))
  expect('client._types', isFunction((client._types as Fields | undefined)?.getTypeParser))
  expect('client.connectionParameters', typeof client.connectionParameters === 'object')
  expect('client.pipeline', client.pipeline === false)
  expect('client._queryQueue', Array.isArray(client._queryQueue))
  expect('client._pulseQueryQueue()', isFunction(client._pulseQueryQueue))
  expect('client._queryable', client._queryable === true)
  expect('client._ending', client._ending === false)
  for (const name of ['processID', 'secretKey']) expect(`client.${name}`, client[name] === null)
  const connection = (client.connection ?? {}) as Fields
  expect('client.connection.stream', isFunction((connection.stream as Fields | undefined)?.write))
  expect('client.connection.parsedStatements', typeof connection.parsedStatements === 'object')
  expect('client.connection._emitMessage', typeof connection._emitMessage === 'boolean')
  for (const name of connectionMethods) expect(`client.connection.${name}()`, isFunction(connection[name]))
  return missing
}

function version (): string {
  try {
    return createRequire(import.meta.url)('pg/package.json').version
  } catch {
    return '(of an unknown version)'
  }
}
