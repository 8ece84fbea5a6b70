import { pgScopeError } from '../errors.ts'

const defaultBatchSize = 500

interface StreamArguments {
  readonly values: readonly unknown[] | undefined
  readonly batchSize: number
}

/**
 * The arguments of stream(text, values, options) and stream(config, options).
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function readStreamArguments (text: unknown, valuesOrOptions: unknown, third: unknown): StreamArguments {
  const isConfig = typeof text === 'object' && third === undefined && !Array.isArray(valuesOrOptions)
  const values = isConfig ? undefined : valuesOrOptions as readonly unknown[] | undefined
  return { values, batchSize: readBatchSize((isConfig ? valuesOrOptions : third) ?? {}) }
}

function readBatchSize (options: unknown): number {
  if (typeof options === 'function') throw invalidStream('callbacks are not called: read the stream')
  if (typeof options !== 'object') throw invalidStream(`the options must be an object, got ${typeof options}`)
  for (const [name, value] of Object.entries(options as object)) {
    if (name === 'batchSize' || value === undefined) continue
    throw invalidStream(`unknown option \`${name}\`; the only option is \`batchSize\`. ` +
      '`rowMode` and `types` belong to the statement: stream({ text, values, rowMode }, options)')
  }
  const { batchSize = defaultBatchSize } = options as { batchSize?: unknown }
  if (!Number.isInteger(batchSize) || (batchSize as number) < 1) {
    const got = typeof batchSize === 'number' ? batchSize : typeof batchSize
    throw invalidStream(`\`batchSize\` must be an integer ≥ 1, got ${got}`)
  }
  return batchSize as number
}

function invalidStream (what: string): Error {
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', `stream: ${what}.`)
}
