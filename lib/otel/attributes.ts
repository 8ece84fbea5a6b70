import type { Attributes } from '@opentelemetry/api'
import type { EngineIdentity, TelemetryEvent } from '../../types/telemetry.ts'

/** The server of an engine. */
export function serverAttributes ({ host, port, database }: EngineIdentity): Attributes {
  return {
    'db.system.name': 'postgresql',
    'db.namespace': database,
    'server.address': host,
    'server.port': port
  }
}

/** The pool of an engine. */
export function poolAttributes ({ decorator }: Pick<EngineIdentity, 'decorator'>): Attributes {
  return { 'db.client.connection.pool.name': decorator }
}

const sqlstate = /^[0-9A-Z]{5}$/

/** Never the message, which may contain values. */
export function errorAttributes ({ error }: TelemetryEvent): Attributes {
  if (error === undefined) return {}
  const { code, name } = (error ?? {}) as { code?: unknown, name?: unknown }
  const type = typeof code === 'string' ? code : typeof name === 'string' ? name : '_OTHER'
  return sqlstate.test(type) ? { 'error.type': type, 'db.response.status_code': type } : { 'error.type': type }
}
