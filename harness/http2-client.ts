import { connect as connectTo } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { connect, constants, type IncomingHttpHeaders } from 'node:http2'
import type { HttpRequest, HttpResponse } from './http-client.ts'

export interface OpenHttp2Request {
  /** Resolves, and never rejects, when the stream is closed. */
  response: Promise<HttpResponse & { code: number }>
  /** What has been read so far. */
  read: () => HttpResponse
  /** Resets the stream with `resetCode`; with `connection` the whole connection ends instead. */
  leave: (how?: 'stream' | 'connection') => void
  /** Reads no more of the body. */
  pause: () => void
}

export interface Http2Request extends HttpRequest {
  /** What leave() resets the stream with; default CANCEL. */
  resetCode?: number
}

/**
 * Sends a request on a connection of its own. `complete` means what it means to any client: ended, and
 * without an error code.
 */
export function openHttp2Request (port: number, { method, path = '/', headers = {}, body, secure = false, resetCode = constants.NGHTTP2_CANCEL }: Http2Request = {}): OpenHttp2Request {
  const socket = secure
    ? connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false })
    : connectTo(port, '127.0.0.1')
  const session = connect(`${secure ? 'https' : 'http'}://127.0.0.1:${port}`, { createConnection: () => socket })
  let failure: Error | undefined
  let ended = false
  let head: IncomingHttpHeaders & { ':status'?: number | undefined } = {}
  const chunks: Buffer[] = []
  session.on('error', (error) => { failure ??= error })
  const stream = session.request({
    ':method': method ?? (body === undefined ? 'GET' : 'POST'),
    ':path': path,
    ...(body !== undefined && { 'content-type': 'application/json' }),
    ...headers
  })
  if (body === undefined) stream.end()
  else stream.end(JSON.stringify(body))
  stream.on('response', (headers) => { head = headers })
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('end', () => { ended = true })
  stream.on('error', (error) => { failure ??= error })
  const read = (): HttpResponse => {
    const whole = Buffer.concat(chunks)
    const length = head['content-length']
    const complete = ended && stream.rstCode === constants.NGHTTP2_NO_ERROR && (method === 'HEAD' || length === undefined || Number(length) === whole.length)
    return { status: head[':status'] ?? 0, headers: head as Record<string, string>, body: whole.toString(), complete, ...(failure && { error: failure }) }
  }
  const response = new Promise<HttpResponse & { code: number }>((resolve) => stream.on('close', () => {
    session.close()
    resolve({ ...read(), code: stream.rstCode ?? 0 })
  }))
  return {
    response,
    read,
    leave: (how = 'stream') => {
      if (how === 'connection') return socket.destroy()
      stream.close(resetCode)
      // Reset with NO_ERROR, a stream is closed when what has arrived was read.
      stream.resume()
    },
    pause: () => { stream.pause() }
  }
}
