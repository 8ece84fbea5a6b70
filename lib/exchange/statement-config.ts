import type { StatementConfig } from '../../types/query.ts'
import { invalidQuery } from './invalid-query.ts'

const fields: readonly string[] = [
  'text', 'values', 'name', 'prepare', 'rowMode', 'types', 'signal'
] satisfies (keyof StatementConfig)[]

/** The alternatives to fields that pg or a library knows and a session does not. */
const instead: Record<string, string | undefined> = {
  callback: 'await the promise',
  queryMode: 'a text with values always uses the extended protocol',
  rows: 'use stream()',
  portal: 'use stream()',
  query_timeout: 'use the option statementTimeout'
}

/**
 * Validates the object that a user passed to query() or stream(). Unknown fields are rejected on plain objects only:
 * objects made by template tags (sql-template-tag, @nearform/sql) have fields of their own, and getters for `text` and
 * `values`.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function readConfig (config: object): StatementConfig {
  if (typeof (config as { submit?: unknown }).submit === 'function') {
    throw invalidQuery('an object that submits itself (pg-cursor, pg-query-stream, pg-copy-streams) needs ' +
      'a pg client: use app.db.lease(fn), or stream() for many rows')
  }
  const prototype = Object.getPrototypeOf(config)
  if (prototype !== Object.prototype && prototype !== null) return config as StatementConfig
  for (const [name, value] of Object.entries(config)) {
    if (value === undefined || fields.includes(name)) continue
    const hint = Object.hasOwn(instead, name) ? `; ${instead[name]}` : ''
    throw invalidQuery(`unknown field \`${name}\`; the fields are ${fields.join(', ')}${hint}`)
  }
  return config as StatementConfig
}
