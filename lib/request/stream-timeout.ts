import type { FastifyReply } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { letExit } from '../process-exit.ts'
import { isStream } from './reply-stream.ts'
import type { RequestScope } from './request-scope.ts'

/**
 * Bounds an answer made of rows that are still to come. The server ends a transaction that fetches nothing for idleInTransactionTimeout;
 * a client that reads slowly, but fast enough for a FETCH now and then, would hold the connection for as long as it likes.
 */
export function boundStream ({ session, config: { streamTimeout } }: RequestScope, reply: FastifyReply, payload: unknown): void {
  if (!session.streaming || streamTimeout === 0 || !isStream(payload)) return
  const timer = setTimeout(() => {
    session.end('rollback', pgScopeError('FST_PG_SCOPE_CANCELED', `The client did not read the streamed answer within ${streamTimeout} ms (streamTimeout): its transaction is rolled back.`)).catch(() => {})
  }, streamTimeout)
  letExit(timer)
  reply.raw.on('close', () => clearTimeout(timer))
}
