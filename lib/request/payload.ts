import { ReadStream } from 'node:fs'
import { isErrored, type Readable } from 'node:stream'
import { errorCodes } from 'fastify'

const noop = (): void => {}

function isNodeStream (payload: unknown): payload is Readable {
  return typeof (payload as Readable | null)?.pipe === 'function'
}

function isWebStream (payload: unknown): payload is ReadableStream {
  return typeof (payload as ReadableStream | null)?.getReader === 'function'
}

export function isResponse (payload: unknown): payload is Response {
  return Object.prototype.toString.call(payload) === '[object Response]'
}

/** A file stream that is being opened: whether the file exists is not known yet. */
export function isOpening (payload: unknown): payload is ReadStream {
  return payload instanceof ReadStream && payload.pending && !payload.destroyed
}

/** @param next called once, when the file is open or could not be opened; then the stream is errored */
export function whenOpened (file: ReadStream, next: () => void): void {
  watch(file)
  const opened = (): void => {
    file.off('ready', opened).off('close', opened)
    next()
  }
  file.on('ready', opened).on('close', opened)
}

/**
 * Adds an error listener: Fastify adds one only when it sends the payload, and an 'error' without a listener ends the
 * process.
 */
export function watch (payload: unknown): void {
  if (isNodeStream(payload)) payload.on?.('error', noop)
}

/**
 * Checks a stream like Fastify does when it starts to send it.
 *
 * @throws the error that Fastify or Node would throw
 */
export function checkStream (payload: Readable | ReadableStream): void {
  if (isWebStream(payload)) {
    if (payload.locked) throw new errorCodes.FST_ERR_REP_READABLE_STREAM_LOCKED()
    if (isErrored(payload as never)) throw failed('The web stream of the answer has failed.')
    return
  }
  // The pipe() of a stream that is only writable, such as another response, fails.
  if (typeof payload.on !== 'function' || (typeof payload.readable !== 'boolean' && 'write' in payload)) {
    throw new errorCodes.FST_ERR_REP_INVALID_PAYLOAD_TYPE(typeof payload)
  }
  if (payload.errored) throw payload.errored
  if (payload.destroyed && !payload.readableEnded) {
    throw failed('The stream of the answer was destroyed before its end.')
  }
}

function failed (message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
}

/** Destroys a payload that is not sent, so that it does not keep a file or a connection to another server open. */
export function discard (payload: unknown): void {
  if (isNodeStream(payload)) {
    watch(payload)
    payload.destroy?.()
  } else if (isWebStream(payload)) {
    if (!payload.locked) payload.cancel().catch(noop)
  } else if (isResponse(payload)) discard(payload.body)
}
