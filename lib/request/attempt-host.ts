import type { FastifyReply } from 'fastify'
import type { ManagedSession } from '../session/managed-session.ts'

/** The request as its attempts use it. */
export interface AttemptHost {
  /** Calls the handler with what it is to see of the reply. */
  handle (reply: FastifyReply): unknown
  /** The session of this attempt, which is made if the request has not used it. */
  session (): ManagedSession
  /** Opens the session of the next attempt. */
  newSession (): ManagedSession
  /** Another engine has a session of this request: its work would be done twice. */
  usesOtherEngine (): boolean
  /** The work continues without its client: onAbort 'commit'. */
  readonly outlivesClient: boolean
}
