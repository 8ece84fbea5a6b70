import type { QueryResult } from '../../types/query.ts'

export type Callback<T = any> = (error: Error | undefined, result?: T) => void

/** What query() of pg was called with. */
export interface StatementArguments {
  readonly text: unknown
  /** For query() of a session. */
  readonly config: Record<string, unknown>
  readonly callback: Callback | undefined
}

/** Fields that pg knows. Libraries add others, which pg ignores; a session rejects those that it does not support. */
const fields = [
  'name', 'rowMode', 'types', 'signal', 'prepare', 'binary', 'rows', 'portal', 'query_timeout'
] as const

/** Reads query(text, values, callback), query(config, values, callback), and both without values. */
export function readArguments (first: any, second: any, third: any, types: unknown): StatementArguments {
  const isConfig = typeof first === 'object' && first !== null
  const text = isConfig ? first.text : first
  const given = typeof second === 'function' ? undefined : second
  const config: Record<string, unknown> = { text, values: given ?? (isConfig ? first.values : undefined) ?? undefined }
  if (isConfig) {
    for (const field of fields) if (first[field]) config[field] = first[field]
  }
  if (types !== undefined && config.types === undefined) config.types = types
  const callback = typeof second === 'function' ? second : third ?? (isConfig ? first.callback : undefined)
  return { text, config, callback }
}

/** The result of a command that is not sent. */
export function resultOf (command: string, newResult: () => object): QueryResult {
  return Object.assign(newResult(), { command }) as QueryResult
}

/** Calls back as pg does: an error that the callback throws is not a rejection. */
export function answer<T> (promise: Promise<T>, callback: Callback<T> | undefined): Promise<T> | undefined {
  if (callback === undefined) return promise
  promise.then(
    (result) => process.nextTick(callback, undefined, result),
    (error) => process.nextTick(callback, error)
  )
}
