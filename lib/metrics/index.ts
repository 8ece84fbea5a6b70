import type { FastifyInstance } from 'fastify'
import type { Engine } from '../../types/engine.ts'
import { pgScopeError } from '../errors.ts'
import { makeEventMetrics } from './event-metrics.ts'
import { ObservedEngines } from './observed-engines.ts'
import { installedClient, type PromClient, type Registry } from './prom-client.ts'
import { makeStatsMetrics } from './stats-metrics.ts'

export interface MetricsOptions {
  /** The register of prom-client. Default: the global one. */
  register?: Registry
  /** The decorator of the engine. Default 'db'. For a second engine call registerMetrics() again. */
  decorator?: string
  /** The buckets of all durations in seconds, for the first call with a register. Default 1 ms to 10 s. */
  buckets?: number[]
  /** Begins the name of each metric, for the first call with a register. Default 'pg_scope_'. */
  prefix?: string
  /** The module prom-client. Default: the installed one. */
  client?: PromClient
}

const defaultBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** The metrics of one register. */
class MetricSet {
  readonly #engines = new ObservedEngines()
  readonly #subscribe: () => () => void
  #unsubscribe: (() => void) | null = null

  constructor (client: PromClient, register: Registry, prefix: string, buckets: number[]) {
    const make = (kind: 'Counter' | 'Gauge', config: { name: string }): any =>
      new client[kind]({ ...config, name: prefix + config.name, registers: [register] })
    makeStatsMetrics(make, this.#engines)
    this.#subscribe = makeEventMetrics(register, prefix, make, this.#engines, buckets)
  }

  add (db: Engine, decorator: string): void {
    this.#engines.add(db, decorator)
    this.#unsubscribe ??= this.#subscribe()
  }

  delete (db: Engine): void {
    this.#engines.delete(db)
    if (!this.#engines.isEmpty) return
    this.#unsubscribe?.()
    this.#unsubscribe = null
  }
}

const sets = new WeakMap<Registry, MetricSet>()

/**
 * Adds the metrics of an engine to a register of prom-client, until the app closes. To be called after the plugin is
 * loaded.
 *
 * @throws FST_PG_SCOPE_OPTIONS if the app has no such engine, or prom-client is not installed
 */
export function registerMetrics (app: FastifyInstance, options: MetricsOptions = {}): void {
  const { decorator = 'db', buckets = defaultBuckets, prefix = 'pg_scope_' } = options
  const db = (app as unknown as Record<string, Engine | undefined>)[decorator]
  if (typeof db?.stats !== 'function') {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `The app has no engine \`${decorator}\`: await the registration of ` +
      'fastify-pg-scope before registerMetrics(), and pass its `decorator`.')
  }
  const client = options.client ?? installedClient()
  const register = options.register ?? client.register as Registry
  let set = sets.get(register)
  if (set === undefined) sets.set(register, set = new MetricSet(client, register, prefix, buckets))
  set.add(db, decorator)
  app.addHook('onClose', async () => { set.delete(db) })
}
