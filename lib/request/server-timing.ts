import type { FastifyReply } from 'fastify'
import type { Engine } from '../../types/engine.ts'
import type { TelemetryEvent } from '../../types/telemetry.ts'
import { acquireChannel, settleChannel, statementChannel } from '../telemetry/channels.ts'
import { followEnds, followStarts } from '../telemetry/follow.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'
import { ServerTiming } from '../telemetry/server-timing.ts'
import type { Done } from './answer.ts'

/** The option `serverTiming` of one engine: follows its channels from the first request that needs it. */
export class ServerTimings {
  readonly #db: Engine
  #undo: (() => void)[] | null = null

  constructor (db: Engine) {
    this.#db = db
  }

  /** For a request that begins. */
  begin (): ServerTiming {
    this.#undo ??= this.#follow()
    return new ServerTiming()
  }

  #follow (): (() => void)[] {
    const db = this.#db
    return [
      followStarts(db, statementChannel, (event) => timingOf(event)?.statementCalled(event.startTime)),
      followEnds(db, statementChannel, (event) => timingOf(event)?.statementEnded(event.startTime + event.duration!)),
      followEnds(db, acquireChannel, (event) => timingOf(event)?.acquired(event.duration!)),
      followEnds(db, settleChannel, (event) => timingOf(event)?.settled(event.duration!))
    ]
  }

  close (): void {
    for (const end of this.#undo ?? []) end()
  }
}

function timingOf ({ request }: TelemetryEvent): ServerTiming | null {
  return (request as RequestLabel | undefined)?.timing ?? null
}

const header = 'server-timing'

/** Adds the header as the response is passed on. An error in its place passes through here again. */
export function withServerTiming (reply: FastifyReply, timing: ServerTiming, done: Done): Done {
  return (error, payload) => {
    if (error == null && !reply.raw.headersSent) {
      timing.show(reply.getHeader(header))
      reply.header(header, timing.header)
    }
    done(error, payload)
  }
}
