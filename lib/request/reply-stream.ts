import type { Readable } from 'node:stream'

export function isStream (payload: unknown): payload is Readable | ReadableStream {
  return typeof (payload as Readable | null)?.pipe === 'function' ||
    typeof (payload as ReadableStream | null)?.getReader === 'function'
}
