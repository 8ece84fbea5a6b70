import pg from 'pg'

interface SentQuery {
  _result?: { _types: unknown }
  handleError (error: Error, connection: unknown): void
}

/** What pg's client has that its types leave out. */
interface Internals {
  connection: unknown
  _types: unknown
  _queryable: boolean
  _ending: boolean
  _queryQueue: SentQuery[]
  _pulseQueryQueue (): void
}

/**
 * Sends a query without the query() of pg's client, which tracing agents wrap or rewrite. They would open a span for
 * each batch, and most never end it: a batch has no callback and no promise, and a client with `pipeline` has sent it
 * before query() returns, so it is in no queue where dd-trace could look for it. The spans of statements come from the
 * tracing channels instead.
 */
export function queryUntraced (client: pg.Client, config: any, values: unknown): unknown {
  if (typeof config?.submit === 'function') {
    submit(client as unknown as Internals, config)
    return config
  }
  const Query = pg.Query as unknown as new (config: unknown, values: unknown, done: unknown) => SentQuery
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: unknown): void => { if (error) reject(error); else resolve(result) }
    submit(client as unknown as Internals, new Query(config, values, done))
  })
}

function submit (client: Internals, query: SentQuery): void {
  if (query._result !== undefined) query._result._types ??= client._types
  if (!client._queryable || client._ending) {
    const error = new Error('Client was closed or has encountered a connection error and is not queryable')
    process.nextTick(() => query.handleError(error, client.connection))
    return
  }
  client._queryQueue.push(query)
  client._pulseQueryQueue()
}
