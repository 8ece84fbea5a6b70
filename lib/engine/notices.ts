import type { FastifyBaseLogger } from 'fastify'
import type { Notice, PgScopeOptions } from '../../types/options.ts'

/**
 * Logs what the server says beside its answers, and shows it to the user's observer. Level debug, and no other: the text of a RAISE NOTICE
 * may hold anything.
 */
export function noticeObserver (log: FastifyBaseLogger, onNotice: PgScopeOptions['onNotice']): (notice: Notice, route: string | undefined) => void {
  const failed = (error: unknown): void => log.error({ err: error }, 'onNotice failed')
  return (notice, route) => {
    const { severity, code, message } = notice
    log.debug({ notice: { severity, code, message }, route }, 'notice from PostgreSQL')
    if (onNotice === undefined) return
    // It is called by the socket's 'data' event, where an error would end the process.
    try {
      Promise.resolve(onNotice(notice, route)).catch(failed)
    } catch (error) {
      failed(error)
    }
  }
}
