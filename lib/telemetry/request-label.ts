import type { RequestIdentity } from '../../types/telemetry.ts'
import type { ServerTiming } from './server-timing.ts'

/** A request, as events, logs and reports name it. All sessions of a request, one for each attempt, share it. */
export class RequestLabel implements RequestIdentity {
  readonly route: string
  readonly id: string
  /** What the header Server-Timing will say; null without the option. */
  readonly timing: ServerTiming | null
  /** With the option `traceContext`: where its trace comes from, unless a tracer knows better. */
  readonly traceparent: string | null
  /** The user's function has said so: no tracer is asked. */
  readonly hasOwnTrace: boolean

  constructor (
    route: string, id: string, timing: ServerTiming | null, traceparent: string | null, hasOwnTrace: boolean
  ) {
    this.route = route
    this.id = id
    this.timing = timing
    this.traceparent = traceparent
    this.hasOwnTrace = hasOwnTrace
  }
}
