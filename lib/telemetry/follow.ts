import type { Engine } from '../../types/engine.ts'
import type { TelemetryEvent } from '../../types/telemetry.ts'
import type { Channel, Listener } from './channel.ts'

/** Calls back with each operation of an engine that has ended. @returns ends it */
export function followEnds<Event extends TelemetryEvent> (
  db: Engine, channel: Channel<Event>, ended: Listener<Event>
): () => void {
  return channel.onEnd(ofEngine(db, ended))
}

/** Calls back with each operation of an engine that begins. @returns ends it */
export function followStarts<Event extends TelemetryEvent> (
  db: Engine, channel: Channel<Event>, started: Listener<Event>
): () => void {
  return channel.onStart(ofEngine(db, started))
}

/** The same as followEnds(), in the async context of the operation's caller. */
export function followEndsInContext<Event extends TelemetryEvent> (
  db: Engine, { published: { asyncEnd } }: Channel<Event>, ended: Listener<Event>
): () => void {
  const listener = ofEngine(db, ended) as (message: unknown) => void
  asyncEnd.subscribe(listener)
  return () => { asyncEnd.unsubscribe(listener) }
}

function ofEngine<Event extends TelemetryEvent> (db: Engine, listener: Listener<Event>): Listener<Event> {
  return (event) => { if (event.engine.db === db) listener(event) }
}
