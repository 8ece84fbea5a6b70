import { createRequire } from 'node:module'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import type { Declare } from '../subject.ts'
import { startTracing } from '../tracing.ts'
import byHand from './by-hand.ts'

/** pg under OpenTelemetry's own instrumentation, whose spans are dropped. */
const traced: Declare = async (app, setup) => {
  startTracing()
  const instrumentation = new PgInstrumentation()
  // It wraps what is required from now on, and pg was imported.
  const require = createRequire(import.meta.url)
  for (const name of ['pg', 'pg-pool']) require(name)
  app.addHook('onClose', async () => { instrumentation.disable() })
  await byHand(app, setup)
}

export default traced
