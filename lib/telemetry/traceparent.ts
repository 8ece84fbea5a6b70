// The trace context of the W3C (https://www.w3.org/TR/trace-context/#traceparent-header), and where an engine gets it.
import type { Engine } from '../../types/engine.ts'

const format = /^(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/
/** How long the fields of version 00 are, with which every later version begins. */
const length = 55

/** @returns a valid traceparent, without the fields of later versions; null for anything else */
export function asTraceparent (value: unknown): string | null {
  if (typeof value !== 'string') return null
  const [valid, version, more] = format.exec(value) ?? []
  if (valid === undefined || (version === '00' && more !== undefined)) return null
  return value.slice(0, length)
}

type Source = () => string | null

const sources = new WeakMap<Engine, Source>()

/** From now on, the engine asks a tracer for the context of the running code. @returns ends it */
export function provideTraceContext (db: Engine, source: Source): () => void {
  sources.set(db, source)
  return () => { sources.delete(db) }
}

/** The context of the running code, if a tracer of the engine knows one. */
export function activeTraceparent (db: Engine): string | null {
  return asTraceparent(sources.get(db)?.())
}
