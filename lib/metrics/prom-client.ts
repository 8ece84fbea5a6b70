import { createRequire } from 'node:module'
import { pgScopeError } from '../errors.ts'

// The part of prom-client that is used, so that it is no dependency.

export type Labels = Record<string, string>

export interface Metric {
  /** A counter. */
  inc? (labels: Labels, value?: number): void
  /** A gauge. */
  set? (labels: Labels, value: number): void
  reset (): void
}

interface MetricConfig {
  name: string
  help: string
  labelNames: readonly string[]
  registers: Registry[]
  collect?: () => void
}

export interface Registry {
  registerMetric (metric: any): void
}

type MetricClass = new (config: any) => any

export interface PromClient {
  readonly Counter: MetricClass
  readonly Gauge: MetricClass
  readonly register: unknown
}

export type { MetricConfig }

/** @throws FST_PG_SCOPE_OPTIONS if it is not installed */
export function installedClient (): PromClient {
  try {
    return createRequire(import.meta.url)('prom-client') as PromClient
  } catch (error) {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'fastify-pg-scope/metrics needs prom-client, which cannot be loaded: ' +
      'install it, or pass the module as `client`.', error)
  }
}
