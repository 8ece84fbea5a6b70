import type { Socket } from 'node:net'
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from 'node:http2'
import type { FastifyReply } from 'fastify'

/** A `ServerResponse`, or over HTTP/2 an `Http2ServerResponse`, whose events mean something else. */
export type RawResponse = FastifyReply['raw']

function streamOf (raw: RawResponse): ServerHttp2Stream | undefined {
  return (raw as unknown as Partial<Http2ServerResponse>).stream
}

/**
 * Whether a response was sent completely. Call it when the response emits 'finish'.
 *
 * HTTP/1 also emits 'finish' if the last write failed because the client has disconnected. HTTP/2 emits it whenever
 * a stream closes. Data that the operating system has accepted counts as delivered: whether the client has read it
 * is unknown.
 *
 * @param socket the socket of the request: the response has already released it
 */
export function isDelivered (raw: RawResponse, socket: Socket): boolean {
  const stream = streamOf(raw)
  if (stream !== undefined) {
    return stream.rstCode === constants.NGHTTP2_NO_ERROR && !stream.aborted && stream.writableFinished
  }
  // The mock socket of inject() has neither property.
  return !socket.destroyed && !socket.errored
}

/** Whether the response may already have emitted 'close'. */
export function isOver (raw: RawResponse): boolean {
  const stream = streamOf(raw)
  return raw.writableEnded || (stream === undefined ? raw.destroyed : stream.destroyed || stream.aborted)
}

/**
 * Makes 'close' follow when a client resets its HTTP/2 stream. If it resets with NO_ERROR while a write is pending,
 * Node before 26 leaves the stream open.
 */
export function closeWhenReset (raw: RawResponse): void {
  streamOf(raw)?.on('aborted', destroySoon)
}

/** Node ends the stream behind 'aborted'. */
function destroySoon (this: ServerHttp2Stream): void {
  process.nextTick(() => this.destroy())
}

/**
 * The delay before a reset, in milliseconds. A client based on libuv, such as Node, treats a reset as a normal end
 * if it arrives before the client has read the last data.
 */
const timeToRead = 50

/**
 * Aborts a response so that no client treats the incomplete body as complete. A normal end of the connection would
 * complete a body of HTTP/1.0, and an HTTP/2 stream that closes without an error code also looks complete.
 */
export function breakOff (raw: RawResponse): void {
  const stream = streamOf(raw)
  if (stream !== undefined) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // An HTTP/1.1 client detects an incomplete body by its length or by the missing last chunk.
  else if (raw.req.httpVersionMinor > 0) reset(raw)
  else setTimeout(reset, timeToRead, raw)
}

function reset (raw: RawResponse): void {
  const { socket } = raw
  // A response without a socket waits for earlier responses of the same connection (HTTP pipelining), which must not
  // be lost.
  if (socket !== null) {
    try {
      // A TLS socket cannot be reset, but the TCP socket below it can.
      ((socket as { _parent?: Socket | null })._parent ?? socket).resetAndDestroy()
    } catch { // not TCP: a Unix domain socket, or the mock socket of inject()
    }
  }
  raw.destroy()
}
