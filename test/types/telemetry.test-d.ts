import type { AcquireEvent, SettleEvent, StatementEvent, TransactionEvent } from '../../types/index.ts'
import { tracingChannel } from 'node:diagnostics_channel'

tracingChannel<unknown, StatementEvent>('fastify-pg-scope:statement').subscribe({
  start (event) {
    const text: string = event.text
    const route: string | undefined = event.route
    const max: number = event.engine.db.stats().max
    const id: string | undefined = event.request?.id
    return [text, route, max, id, event.session?.state]
  },
  end () {},
  asyncStart () {},
  asyncEnd (event) {
    // @ts-expect-error: values are never published
    return event.values
  },
  error () {}
})

export function outcomes (transaction: TransactionEvent, acquire: AcquireEvent, settle: SettleEvent): unknown {
  // @ts-expect-error: no such outcome
  if (transaction.outcome === 'aborted') return null
  // @ts-expect-error: the plugin sets it
  settle.wanted = 'commit'
  return acquire.connection === 'handedOver'
}
