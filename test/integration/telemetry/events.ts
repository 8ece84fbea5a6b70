// What the tests of the tracing channels share: a recorder of all events.
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import type { TelemetryEvent } from '../../../types/telemetry.ts'

export const names = ['statement', 'transaction', 'acquire', 'lease', 'connect', 'settle'] as const
export type Name = typeof names[number]
export const phases = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const

/** The request that the running code belongs to, as a tracer would know it. */
export const place = new AsyncLocalStorage<string>()

export interface Recorded {
  name: Name
  phase: typeof phases[number]
  event: TelemetryEvent & Record<string, any>
  place: string | undefined
}

/** Records all events from now on. */
export function record (t: { teardown (fn: () => unknown): unknown }): {
  all: Recorded[]
  /** The events of a channel that have ended, in the order of their ends. */
  ended (name: Name): Recorded['event'][]
  /** The events that have begun and not ended. */
  open (): Recorded[]
  stop (): void
} {
  const all: Recorded[] = []
  const undo = names.map((name) => {
    const channel = tracingChannel(`fastify-pg-scope:${name}`)
    const subscribers = Object.fromEntries(phases.map((phase) => [phase, (event: any) => {
      all.push({ name, phase, event, place: place.getStore() })
    }])) as any
    channel.subscribe(subscribers)
    return () => channel.unsubscribe(subscribers)
  })
  const stop = (): void => { for (const fn of undo.splice(0)) fn() }
  t.teardown(stop)
  const of = (name: Name, phase: string) => all.filter((each) => each.name === name && each.phase === phase)
  return {
    all,
    ended: (name) => of(name, 'asyncEnd').map(({ event }) => event),
    open: () => all.filter(({ phase, event }) => phase === 'start' && !all.some((each) => each.phase === 'asyncEnd' && each.event === event)),
    stop
  }
}
