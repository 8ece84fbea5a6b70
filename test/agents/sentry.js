import * as Sentry from '@sentry/node'

Sentry.init({ dsn: process.env.TEST_SENTRY, tracesSampleRate: 1, enableOpenTelemetrySetup: true })
globalThis.registerOtel = (await import('../../dist/lib/otel/index.js')).registerOtel
globalThis.finish = async () => {
  await Sentry.flush(10000)
  return []
}
