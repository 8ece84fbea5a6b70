import type { FastifyReply } from 'fastify'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import type { IdempotentRequest } from './idempotent-request.ts'

/** How long a key is asked for again after conflicts. Milliseconds. */
const longestConflict = 5000

/** The request as it waits for its idempotency key. */
export interface KeyHost {
  readonly reply: FastifyReply
  session (): ManagedSession
  /** Rolls back, and opens another session. */
  startOver (): Promise<void>
  /** Nothing may begin any more. */
  isEnded (): boolean
  handle (): unknown
}

/**
 * Begins the transaction with the key, and runs the handler, or repeats the answer of an earlier request with that key.
 *
 * @returns what Fastify expects of an async handler
 */
export async function runWithKey (idempotent: IdempotentRequest, host: KeyHost): Promise<unknown> {
  const since = performance.now()
  while (true) {
    try {
      if (await idempotent.begin(host.session(), host.reply)) break
      return idempotent.replay(host.reply)
    } catch (error) {
      // Under REPEATABLE READ the row of a concurrent request, which is committed now, is seen by a new transaction.
      const isTooLate = performance.now() - since > longestConflict
      if (conflictIn(error) === null || host.isEnded() || isTooLate) throw error
      await host.startOver()
    }
  }
  const result = host.handle()
  return result === undefined ? host.reply : result
}
