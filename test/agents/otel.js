// OpenTelemetry as an app sets it up: traces of HTTP, Fastify and pg, sent by OTLP.
import { register } from 'node:module'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import { context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { registerInstrumentations } from '@opentelemetry/instrumentation'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'

register('@opentelemetry/instrumentation/hook.mjs', import.meta.url)

/** Spans that have begun and not ended. */
const open = new Set()
const watch = {
  onStart: (span) => open.add(span),
  onEnd: (span) => open.delete(span),
  forceFlush: async () => {},
  shutdown: async () => {}
}
const provider = new BasicTracerProvider({
  spanProcessors: [watch, new BatchSpanProcessor(new OTLPTraceExporter(), { scheduledDelayMillis: 200 })]
})
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
trace.setGlobalTracerProvider(provider)
const fastify = new FastifyOtelInstrumentation()
registerInstrumentations({ instrumentations: [new HttpInstrumentation(), new PgInstrumentation(), fastify] })

globalThis.plugins = [fastify.plugin()]
globalThis.registerOtel = (await import('../../dist/lib/otel/index.js')).registerOtel
globalThis.finish = async () => {
  await provider.forceFlush()
  return [...open].map(({ name }) => name)
}
