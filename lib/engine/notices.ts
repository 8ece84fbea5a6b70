import type { FastifyBaseLogger } from 'fastify'
import type { Notice, PgScopeOptions } from '../../types/options.ts'

/**
 * Logs the server's notices and passes them to the user's `onNotice`. The level is always debug, because the text of a
 * RAISE NOTICE may contain anything.
 */
export function noticeObserver (
  log: FastifyBaseLogger, onNotice: PgScopeOptions['onNotice']
): (notice: Notice, route: string | undefined) => void {
  const failed = (error: unknown): void => log.error({ err: error }, 'onNotice failed')
  return (notice, route) => {
    const { severity, code, message } = notice
    log.debug({ notice: { severity, code, message }, route }, 'notice from PostgreSQL')
    if (onNotice === undefined) return
    // Called from the socket's 'data' event, where an exception would end the process.
    try {
      Promise.resolve(onNotice(notice, route)).catch(failed)
    } catch (error) {
      failed(error)
    }
  }
}
