import type { FastifyRequest } from 'fastify'
import type { Writer } from '../exchange/written-position.ts'
import type { PgEngine } from '../engine/engine.ts'
import type { RunInRequest } from '../session/current-session.ts'
import type { Session } from '../../types/session.ts'

/** On the raw request: runs a function as part of the request, for all engines that follow it. */
const runKey = Symbol('fastify-pg-scope.run')

interface RawRequest {
  [runKey]?: RunInRequest
  readonly headers: Record<string, unknown>
  emit (...args: unknown[]): unknown
}

/** Runs the rest of a request with its session as the current one: `app.db.current()`. */
export function runAsCurrent (
  engine: PgEngine, request: FastifyRequest, decorator: string, writer: Writer | null, done: () => void
): void {
  // Node passes the async context of a request on to its socket, which must not retain the request until it is closed.
  const ref = new WeakRef(request as unknown as Record<string, Session>)
  const run = engine.followRequest(() => ref.deref()?.[decorator] ?? null, writer)
  const raw = request.raw as unknown as RawRequest
  if (hasBody(raw)) keepForBody(raw, run)
  run(done)
}

function hasBody ({ headers }: RawRequest): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined ||
    // HTTP/2 needs neither.
    (headers[':method'] !== undefined && headers[':method'] !== 'GET')
}

/**
 * The bytes of a body arrive as events of the socket, in an async context of its own: everything from the body parser
 * on would run there, hooks and handler included.
 */
function keepForBody (raw: RawRequest, run: RunInRequest): void {
  const isKept = raw[runKey] !== undefined
  raw[runKey] = run
  if (isKept) return
  const { emit } = raw
  // Not assigned as a literal: V8 makes such functions in the old generation, where the whole request would follow.
  const emitInRequest = (...args: unknown[]): unknown => raw[runKey]!(() => emit.apply(raw, args))
  raw.emit = emitInRequest
}
