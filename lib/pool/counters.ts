/** Events since the engine started: `app.db.stats().counters`. */
export type Counters = ReturnType<typeof newCounters>

type CounterName = 'opened' | 'destroyed' | 'acquired' | 'handedOver' | 'timedOut' | 'refused' | 'deadlocks' | 'leaks' |
  'roundTrips' | 'resent' | 'canceled' | 'committed' | 'rolledBack' | 'retried'

export function newCounters (): Record<CounterName, number> {
  return {
    opened: 0,
    destroyed: 0,
    acquired: 0,
    handedOver: 0,
    timedOut: 0,
    refused: 0,
    deadlocks: 0,
    leaks: 0,
    roundTrips: 0,
    resent: 0,
    canceled: 0,
    committed: 0,
    rolledBack: 0,
    retried: 0
  }
}
