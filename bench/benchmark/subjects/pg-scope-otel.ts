import { registerOtel } from '../../../lib/otel/index.ts'
import type { Declare } from '../subject.ts'
import { startTracing } from '../tracing.ts'
import pgScope from './pg-scope.ts'

/** With spans and metrics of OpenTelemetry, which are dropped. */
const traced: Declare = async (app, setup) => {
  startTracing()
  await pgScope(app, setup)
  registerOtel(app)
}

export default traced
