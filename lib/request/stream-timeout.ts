import type { FastifyReply } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { letExit } from '../process-exit.ts'
import { isStream } from './reply-stream.ts'
import type { RequestScope } from './request-scope.ts'

/**
 * Limits the duration of a streamed response. The server ends a transaction without a statement for
 * idleInTransactionTimeout, but a slow client that causes an occasional FETCH could hold the connection
 * indefinitely.
 */
export function boundStream (
  { session, config: { streamTimeout } }: RequestScope, reply: FastifyReply, payload: unknown
): void {
  if (!session.streaming || streamTimeout === 0 || !isStream(payload)) return
  const timer = setTimeout(() => {
    const error = pgScopeError('FST_PG_SCOPE_CANCELED', 'The client did not read the streamed response within ' +
      `${streamTimeout} ms (\`streamTimeout\`): its transaction is rolled back.`)
    session.end('rollback', error).catch(() => {})
  }, streamTimeout)
  letExit(timer)
  reply.raw.on('close', () => clearTimeout(timer))
}
