import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { gunzipSync, inflateSync } from 'node:zlib'
import type { Test } from 'tap'
import type { Posted } from './agents.ts'

/** What the server of New Relic answers before an agent may send. */
const newRelic = (port: number): Record<string, unknown> => ({
  preconnect: { redirect_host: `127.0.0.1:${port}` },
  connect: {
    agent_run_id: 1,
    collect_traces: true,
    collect_analytics_events: true,
    apdex_t: 0.5,
    event_harvest_config: {
      report_period_ms: 2000,
      harvest_limits: { analytic_event_data: 1000, custom_event_data: 10, error_event_data: 100, span_event_data: 1000 }
    }
  },
  get_agent_commands: []
})

/** Takes everything that an agent sends. */
export async function openSink (
  t: Test, secure: { key: string, cert: string } | null
): Promise<{ port: number, posted: Posted[] }> {
  const posted: Posted[] = []
  let port = 0
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
      posted.push({ url: request.url!, body: decoded(Buffer.concat(chunks), request.headers['content-encoding']) })
    } catch { // the agent has gone
    }
    const method = /[?&]method=(\w+)/.exec(request.url!)?.[1]
    response.setHeader('content-type', 'application/json')
    const isElastic = request.url === '/'
    response.end(JSON.stringify(isElastic ? { version: '8.17.0' } : { return_value: newRelic(port)[method ?? ''] ?? null }))
  }
  const server = secure === null ? createServer(take) : createSecureServer(secure, take)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { port, posted }
}

function decoded (body: Buffer, encoding: string | undefined): Buffer {
  if (encoding === 'gzip') return gunzipSync(body)
  return encoding === 'deflate' ? inflateSync(body) : body
}
