import { pipeline, Readable, Transform } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { CursorStream } from '../session/cursor-stream.ts'

/** The minimum length of a chunk, in characters. */
const pieceLength = 16384

export function areRows (payload: unknown): payload is CursorStream {
  return payload instanceof CursorStream
}

/**
 * Rows as NDJSON, one line per row (https://github.com/ndjson/ndjson-spec). Sets the content type if the reply has
 * none.
 */
export function asNdjson (rows: CursorStream, reply: FastifyReply): Readable {
  if (!reply.hasHeader('content-type')) reply.header('content-type', 'application/x-ndjson')
  if (reply.request.method === 'HEAD') {
    // Fastify would read all rows and send none.
    rows.destroy()
    return Readable.from([])
  }
  let lines = ''
  const text = new Transform({
    writableObjectMode: true,
    transform (row, _encoding, done) {
      try {
        lines += JSON.stringify(row) + '\n'
      } catch (error) { // an exception would be thrown from an event of the rows and end the process
        return done(error as Error)
      }
      if (lines.length < pieceLength) return done()
      const piece = lines
      lines = ''
      done(null, piece)
    },
    flush (done) {
      done(null, lines === '' ? undefined : lines)
    }
  })
  pipeline(rows, text, () => {})
  return text
}
