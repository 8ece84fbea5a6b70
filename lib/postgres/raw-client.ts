import { Stream } from 'node:stream'
import type pg from 'pg'

/** Parts of a client that the types of pg omit or declare as read-only. */
interface Internals {
  pipeline: boolean
  /** Only a client of pg.Pool has it. */
  release?: unknown
  /** Names of prepared statements, with their texts. */
  readonly connection: { readonly parsedStatements: Record<string, string> }
  query (query: unknown, ...rest: unknown[]): unknown
}

/**
 * Turns a pipelined client into a plain one for lease(fn), because pg-cursor, pg-query-stream and pg-copy-streams
 * cannot run on a pipelined client. No session may use the client afterwards.
 *
 * @param prepared the statements that sessions have prepared on it: pg has a list of its own
 * @param unheard called with the error of a stream that has no listener for it, which would otherwise end the process.
 *   Streams that fn leaves unfinished fail when their connection is ended.
 */
export function makeRaw (
  client: pg.Client, prepared: Iterable<readonly [name: string, text: string]>, unheard: (error: unknown) => void
): void {
  const raw = client as unknown as Internals
  raw.pipeline = false
  delete raw.release
  for (const [name, text] of prepared) raw.connection.parsedStatements[name] = text
  const { query } = raw
  raw.query = (submittable, ...rest) => {
    if (submittable instanceof Stream) {
      submittable.on('error', (error) => { if (submittable.listenerCount('error') === 1) unheard(error) })
    }
    return query.call(client, submittable, ...rest)
  }
}
