import { pipeline, Readable, Transform } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { CursorStream } from '../session/stream.ts'

export function isStream (payload: unknown): payload is Readable | ReadableStream {
  return typeof (payload as Readable | null)?.pipe === 'function' || typeof (payload as ReadableStream | null)?.getReader === 'function'
}

/** Rows become NDJSON, a line for each, in pieces of at least this many characters. */
const pieceLength = 16384

/**
 * A body that ends only when the transaction has: what the client reads to its end is committed, where it is to be. A failure
 * destroys it, so that the client sees a broken body and never a complete one.
 *
 * @param end COMMIT or ROLLBACK, once the last row has been read
 */
export function bodyBeforeEnd (payload: Readable | ReadableStream, reply: FastifyReply, end: () => Promise<void>): Readable {
  const rows = payload instanceof CursorStream
  if (rows && !reply.hasHeader('content-type')) reply.header('content-type', 'application/x-ndjson')
  let lines = ''
  const body = new Transform({
    writableObjectMode: rows,
    transform (chunk, _encoding, done) {
      if (!rows) return done(null, chunk)
      lines += JSON.stringify(chunk) + '\n'
      if (lines.length < pieceLength) return done()
      const piece = lines
      lines = ''
      done(null, piece)
    },
    flush (done) {
      if (lines !== '') this.push(lines)
      end().then(() => done(), done)
    }
  })
  // Fastify hears of a failure by the body's own 'error' event.
  pipeline('getReader' in payload ? Readable.fromWeb(payload as never) : payload, body, () => {})
  return body
}
