import { type BatchObservableResult, type Meter, ValueType } from '@opentelemetry/api'
import type { EngineIdentity, StatementEvent, TelemetryEvent } from '../../types/telemetry.ts'
import { errorAttributes, poolAttributes, serverAttributes } from './attributes.ts'
import { operationOf } from '../telemetry/query-text.ts'

const seconds = {
  unit: 's',
  valueType: ValueType.DOUBLE,
  advice: { explicitBucketBoundaries: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10] }
}

/** The metrics of the conventions: https://opentelemetry.io/docs/specs/semconv/database/database-metrics/ */
export class ClientMetrics {
  readonly #operations
  readonly #waits
  readonly #creations
  readonly #uses
  readonly #timeouts

  constructor (meter: Meter) {
    this.#operations = meter.createHistogram('db.client.operation.duration', seconds)
    this.#waits = meter.createHistogram('db.client.connection.wait_time', seconds)
    this.#creations = meter.createHistogram('db.client.connection.create_time', seconds)
    this.#uses = meter.createHistogram('db.client.connection.use_time', seconds)
    this.#timeouts = meter.createCounter('db.client.connection.timeouts', { unit: '{timeout}' })
  }

  statement (event: StatementEvent): void {
    this.#operations.record(event.duration! / 1000, {
      ...serverAttributes(event.engine),
      'db.operation.name': operationOf(event.text),
      ...errorAttributes(event)
    })
  }

  acquired (event: TelemetryEvent): void {
    const attributes = poolAttributes(event.engine)
    const { code } = (event.error ?? {}) as { code?: unknown }
    if (event.error === undefined) this.#waits.record(event.duration! / 1000, attributes)
    else if (code === 'FST_PG_SCOPE_POOL_EXHAUSTED') this.#timeouts.add(1, attributes)
  }

  connected ({ engine, duration, error }: TelemetryEvent): void {
    if (error === undefined) this.#creations.record(duration! / 1000, poolAttributes(engine))
  }

  returned ({ engine, duration }: TelemetryEvent): void {
    this.#uses.record(duration! / 1000, poolAttributes(engine))
  }
}

/** The state of the pool, read when it is exported. @returns ends it */
export function observePool (meter: Meter, engine: Pick<EngineIdentity, 'db' | 'decorator'>): () => void {
  const attributes = poolAttributes(engine)
  const count = meter.createObservableUpDownCounter('db.client.connection.count', { unit: '{connection}' })
  const max = meter.createObservableUpDownCounter('db.client.connection.max', { unit: '{connection}' })
  const pending = meter.createObservableUpDownCounter('db.client.connection.pending_requests', { unit: '{request}' })
  const all = [count, max, pending]
  const read = (result: BatchObservableResult): void => {
    const stats = engine.db.stats()
    result.observe(count, stats.idle, { ...attributes, 'db.client.connection.state': 'idle' })
    result.observe(count, stats.inUse, { ...attributes, 'db.client.connection.state': 'used' })
    result.observe(max, stats.max, attributes)
    result.observe(pending, stats.waiting, attributes)
  }
  meter.addBatchObservableCallback(read, all)
  return () => meter.removeBatchObservableCallback(read, all)
}
