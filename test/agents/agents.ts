// The agents, and how each of them is loaded, sends what it has seen to a server on loopback, and names a request.
import { decodeMulti } from '@msgpack/msgpack'

/** A request as an agent has recorded it. */
export interface Trace {
  /** Method and route. */
  name: string
  status: number
  /** Names of its operations on the database, of an agent that takes the spans of fastify-pg-scope/otel. */
  operations?: string[]
}

export interface Agent {
  /** Arguments of Node, as the agent's documentation says. */
  args: string[]
  env (port: number): Record<string, string>
  /** It sends over TLS alone. */
  isSecure?: boolean
  /** The requests in what was posted to the sink. */
  traces (posted: readonly Posted[]): Trace[]
}

/** What was sent to the sink. */
export interface Posted {
  url: string
  body: Buffer
}

type Fields = Record<string, any>

function lines (posted: readonly Posted[], path: RegExp): Fields[] {
  return posted.filter(({ url }) => path.test(url))
    .flatMap(({ body }) => body.toString().split('\n').filter((line) => line.startsWith('{')))
    .map((line) => JSON.parse(line) as Fields)
}

interface Span {
  traceId: string
  name: string
  /** That of the request itself. */
  isRequest: boolean
  attributes: Fields
}

/** Joins spans that were sent each by itself to one trace for each request. */
function tracesOf (spans: readonly Span[]): Trace[] {
  const operations = spans.filter(({ attributes }) => 'db.system.name' in attributes || 'db.system' in attributes)
  return spans.filter(({ isRequest }) => isRequest).map(({ traceId, name, attributes }) => ({
    name,
    status: Number(attributes['http.response.status_code'] ?? attributes['http.status_code']),
    // Connections are opened by whatever request needs them.
    operations: operations.filter((span) => span.traceId === traceId && !span.name.endsWith('.connect'))
      .map(({ name }) => name).sort()
  }))
}

/** Of OTLP. */
function openTelemetrySpans (posted: readonly Posted[]): Span[] {
  return posted.filter(({ url }) => url === '/v1/traces')
    .flatMap(({ body }) => (JSON.parse(body.toString()) as Fields).resourceSpans as Fields[])
    .flatMap(({ scopeSpans }) => scopeSpans as Fields[])
    .flatMap(({ scope, spans }) => (spans as Fields[]).map(({ traceId, name, attributes }) => ({
      traceId,
      name,
      isRequest: scope.name === '@opentelemetry/instrumentation-http',
      attributes: Object.fromEntries((attributes as Fields[]).map(({ key, value }) => [key, Object.values(value)[0]]))
    })))
}

function sentrySpans (posted: readonly Posted[]): Span[] {
  return lines(posted, /^\/api\/1\/envelope/).flatMap(({ items }) => items as Fields[] ?? [])
    .filter((item) => 'is_segment' in item)
    .map(({ trace_id: traceId, name, is_segment: isRequest, attributes }) => ({
      traceId,
      name,
      isRequest,
      attributes: Object.fromEntries(Object.entries<Fields>(attributes).map(([key, { value }]) => [key, value]))
    }))
}

export const agents: Record<string, Agent> = {
  '@opentelemetry/instrumentation-pg': {
    args: ['--import', './otel.js'],
    env: (port) => ({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }),
    traces: (posted) => tracesOf(openTelemetrySpans(posted))
  },
  'dd-trace': {
    args: ['--import', 'dd-trace/initialize.mjs'],
    env: (port) => ({
      DD_TRACE_AGENT_URL: `http://127.0.0.1:${port}`,
      DD_SERVICE: 'test',
      DD_INSTRUMENTATION_TELEMETRY_ENABLED: 'false',
      DD_REMOTE_CONFIGURATION_ENABLED: 'false',
      DD_RUNTIME_METRICS_ENABLED: 'false',
      DD_CRASHTRACKING_ENABLED: 'false',
      DD_TRACE_STARTUP_LOGS: 'false',
      DD_TRACE_FLUSH_INTERVAL: '200',
      // All of them: by default an agent may drop some.
      DD_TRACE_SAMPLE_RATE: '1'
    }),
    traces: (posted) => posted.filter(({ url }) => url.endsWith('/traces'))
      .flatMap(({ body }) => [...decodeMulti(body, { useBigInt64: true })].flat(2) as Fields[])
      .filter(({ meta, parent_id: parent }) => meta?.['span.kind'] === 'server' && String(parent) === '0')
      .map(({ resource, meta }) => ({ name: resource, status: Number(meta['http.status_code']) }))
  },
  'elastic-apm-node': {
    args: ['--experimental-loader=elastic-apm-node/loader.mjs', '--require', 'elastic-apm-node/start.js'],
    env: (port) => ({
      ELASTIC_APM_SERVER_URL: `http://127.0.0.1:${port}`,
      ELASTIC_APM_SERVICE_NAME: 'test',
      ELASTIC_APM_CENTRAL_CONFIG: 'false',
      ELASTIC_APM_CLOUD_PROVIDER: 'none',
      ELASTIC_APM_METRICS_INTERVAL: '0s',
      ELASTIC_APM_API_REQUEST_TIME: '1s',
      ELASTIC_APM_LOG_LEVEL: 'off'
    }),
    traces: (posted) => lines(posted, /^\/intake\/v2\/events/).flatMap(({ transaction }) => transaction ?? [])
      .map(({ name, context }) => ({ name, status: context?.response?.status_code }))
  },
  newrelic: {
    isSecure: true,
    args: ['--import', 'newrelic/esm-loader.mjs', '--require', 'newrelic'],
    env: (port) => ({
      NEW_RELIC_HOST: '127.0.0.1',
      NEW_RELIC_PORT: String(port),
      NEW_RELIC_LICENSE_KEY: '0'.repeat(40),
      NEW_RELIC_APP_NAME: 'test',
      NEW_RELIC_NO_CONFIG_FILE: 'true',
      NEW_RELIC_LOG_ENABLED: 'false',
      NEW_RELIC_UTILIZATION_DETECT_AWS: 'false',
      NEW_RELIC_UTILIZATION_DETECT_AZURE: 'false',
      NEW_RELIC_UTILIZATION_DETECT_AZUREFUNCTION: 'false',
      NEW_RELIC_UTILIZATION_DETECT_GCP: 'false',
      NEW_RELIC_UTILIZATION_DETECT_PCF: 'false',
      NEW_RELIC_UTILIZATION_DETECT_DOCKER: 'false',
      NEW_RELIC_UTILIZATION_DETECT_KUBERNETES: 'false'
    }),
    traces: (posted) => posted.filter(({ url }) => url.includes('method=analytic_event_data'))
      .flatMap(({ body }) => (JSON.parse(body.toString()) as [unknown, unknown, Fields[][]])[2])
      .map(([intrinsics, , attributes]) => ({
        name: String(intrinsics!.name).replace(/^WebTransaction\/WebFrameworkUri\/Fastify\//, '').replace(/^([A-Z]+)\//, '$1 '),
        status: Number(attributes!['http.statusCode'])
      }))
  },
  '@sentry/node': {
    args: ['--import', './sentry.js'],
    env: (port) => ({ TEST_SENTRY: `http://key@127.0.0.1:${port}/1` }),
    traces: (posted) => tracesOf(sentrySpans(posted))
  }
}
