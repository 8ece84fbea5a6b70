import { setTimeout as sleep } from 'node:timers/promises'
import type { Session } from 'fastify-pg-scope'

/**
 * What is done for each kind of job. All that a handler does in its session is saved together with the job's being
 * done, or not at all. What it does elsewhere (an e-mail, another service) may happen twice, where the process dies
 * in between.
 */
export type Handler = (session: Session, payload: any) => Promise<void>

export const handlers: Record<string, Handler> = {
  async letter (session, { receiver, milliseconds = 100 }: { receiver: string, milliseconds?: number }) {
    await session.query('insert into letters (receiver, written_by) values ($1, $2)', [receiver, process.pid])
    // Writing takes its time.
    await sleep(milliseconds)
    if (receiver === 'nobody') throw new Error('a letter needs a receiver')
  }
}
