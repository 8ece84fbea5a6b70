import type { Writer } from '../exchange/written-position.ts'
import { AutocommitSession } from '../session/autocommit-session.ts'
import { currentWriter } from '../session/current-session.ts'

/** The session of `app.db.query()`. Where it writes is told to the request or session that its caller belongs to. */
export class EngineSession extends AutocommitSession {
  protected override writerOfCall (): Writer {
    return currentWriter(this.host.pool) ?? this
  }
}
