import { Registry } from 'prom-client'
import { registerMetrics } from '../../../lib/metrics/index.ts'
import type { Declare } from '../subject.ts'
import pgScope from './pg-scope.ts'

/** With the metrics of docs/telemetry.md, which nothing scrapes. */
const metered: Declare = async (app, setup) => {
  await pgScope(app, setup)
  registerMetrics(app, { register: new Registry() })
}

export default metered
