import type { RowStream } from '../../types/session.ts'
import type { ScopedSession } from './scoped-session.ts'

/** Opens and ends the sessions of the streams. */
export interface StreamSessions {
  open (): ScopedSession
  ended (session: ScopedSession): void
}

/** The streams of an autocommit session that were opened outside of its transactions: each has one of its own. */
export class StreamTransactions {
  readonly #sessions: StreamSessions
  /** Allocated lazily. */
  #streams: Set<RowStream> | null = null

  constructor (sessions: StreamSessions) {
    this.#sessions = sessions
  }

  /** A cursor has rows that were not read yet. */
  get isStreaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  /** @param closed is called with the promise of its COMMIT, or of its ROLLBACK after an error */
  open<R> (
    open: (session: ScopedSession) => RowStream<R>, closed: (stream: RowStream<R>, committed: Promise<void>) => void
  ): RowStream<R> {
    const session = this.#sessions.open()
    const stream = open(session)
    const streams = this.#streams ??= new Set()
    streams.add(stream)
    stream.once('close', () => {
      streams.delete(stream)
      const committed = session.end(stream.errored === null ? 'commit' : 'rollback')
      closed(stream, committed)
      committed.catch(() => {}).finally(() => this.#sessions.ended(session))
    })
    return stream
  }

  destroyAll (): void {
    for (const stream of this.#streams ?? []) stream.destroy()
  }
}
