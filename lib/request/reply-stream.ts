import { pipeline, Readable, Transform } from 'node:stream'

export function isStream (payload: unknown): payload is Readable | ReadableStream {
  return typeof (payload as Readable | null)?.pipe === 'function' || typeof (payload as ReadableStream | null)?.getReader === 'function'
}

/**
 * A body that ends only when the transaction has: what the client reads to its end is committed, where it is to be. A failure
 * destroys it, so that the client sees a broken body and never a complete one.
 *
 * @param end COMMIT or ROLLBACK, once the last row has been read
 */
export function bodyBeforeEnd (payload: Readable | ReadableStream, end: () => Promise<void>): Readable {
  const body = new Transform({
    transform (chunk, _encoding, done) {
      done(null, chunk)
    },
    flush (done) {
      end().then(() => done(), done)
    }
  })
  // Fastify hears of a failure by the body's own 'error' event.
  pipeline('getReader' in payload ? Readable.fromWeb(payload as never) : payload, body, () => {})
  return body
}
