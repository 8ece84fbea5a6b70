import type { Socket } from 'node:net'
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from 'node:http2'
import type { FastifyReply } from 'fastify'

/** A `ServerResponse`, or over HTTP/2 an `Http2ServerResponse`, whose events mean something else. */
export type RawResponse = FastifyReply['raw']

function streamOf (raw: RawResponse): ServerHttp2Stream | undefined {
  return (raw as unknown as Partial<Http2ServerResponse>).stream
}

/**
 * Whether all of a response has left; to be asked when it emits 'finish'.
 *
 * HTTP/1 also emits 'finish' when the last write failed, because the client has left. HTTP/2 emits it whenever a stream closes.
 * What the operating system has taken counts as delivered: nothing tells whether the client has read it.
 *
 * @param socket of the request: the response has let go of it by then
 */
export function isDelivered (raw: RawResponse, socket: Socket): boolean {
  const stream = streamOf(raw)
  if (stream !== undefined) return stream.rstCode === constants.NGHTTP2_NO_ERROR && !stream.aborted && stream.writableFinished
  // Under inject() there is a stand-in for the socket, which has neither.
  return !socket.destroyed && !socket.errored
}

/** Whether its 'close' may have come already. */
export function isOver (raw: RawResponse): boolean {
  const stream = streamOf(raw)
  return raw.writableEnded || (stream === undefined ? raw.destroyed : stream.destroyed)
}

/**
 * A client that runs on libuv, Node for one, takes a reset for an ordinary end when both the reset and the last data wait to be read.
 * Milliseconds.
 */
const timeToRead = 50

/**
 * Ends a response before its time, so that no client takes what it has read for all of it. An ordinary end of the connection would
 * complete a body of HTTP/1.0, and an HTTP/2 stream that closes without an error code looks complete as well.
 */
export function breakOff (raw: RawResponse): void {
  const stream = streamOf(raw)
  if (stream !== undefined) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // HTTP/1.1 tells an incomplete body by its length, or by the chunk that is missing.
  else if (raw.req.httpVersionMinor > 0) reset(raw)
  else setTimeout(reset, timeToRead, raw)
}

function reset (raw: RawResponse): void {
  const { socket } = raw
  // Without a socket it waits for other responses of the same connection (HTTP pipelining), which must arrive.
  if (socket !== null) {
    try {
      // A TLS socket cannot be reset, but what carries it can.
      ((socket as { _parent?: Socket | null })._parent ?? socket).resetAndDestroy()
    } catch { // no TCP: a Unix domain socket, or the stand-in of inject()
    }
  }
  raw.destroy()
}
