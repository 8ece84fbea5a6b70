import { Stream } from 'node:stream'
import type pg from 'pg'

/** What the types of pg do not show of a client, or show for reading only. */
interface Internals {
  pipeline: boolean
  /** Only a client of pg.Pool has it. */
  release?: unknown
  /** Names of prepared statements, with their texts. */
  readonly connection: { readonly parsedStatements: Record<string, string> }
  query (query: unknown, ...rest: unknown[]): unknown
}

/**
 * Makes a client of ours one that its user may do anything with: pg-cursor, pg-query-stream and pg-copy-streams
 * cannot run on a pipelined client. No session may have it after this.
 *
 * @param prepared names of the statements that sessions have prepared on it, with their texts: pg keeps a book of
 *   its own
 * @param unheard is told the error of a stream that has no listener for it. Otherwise that error would end the
 *   process, and the streams
 * that fn leaves unfinished have one when their connection is ended.
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
