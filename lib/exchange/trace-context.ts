import type { Engine } from '../../types/engine.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'
import { operationOf } from '../telemetry/query-text.ts'
import { activeTraceparent } from '../telemetry/traceparent.ts'
import { mergeSettings, type Settings } from './transaction-config.ts'

/** The option `traceContext`: the settings that tell the server which trace a transaction belongs to. */
export class TraceContext {
  readonly #db: Engine
  readonly #setting: string
  /** The beginning of application_name, or null if it is left as it is. */
  readonly #prefix: string | null

  /** @param name application_name, or null to leave it as it is */
  constructor (db: Engine, setting: string, name: string | null) {
    this.#db = db
    this.#setting = setting
    // PostgreSQL cuts the name at 63 bytes: a traceparent has 55. It keeps printable ASCII only.
    this.#prefix = name === null ? null : `${name.replace(/[^ -~]/g, '?').slice(0, 7)} `
  }

  /** To be called in the async context of the caller. @returns null if there is no trace */
  settings (request: RequestLabel | undefined): Settings | null {
    const traceparent = (request?.hasOwnTrace === true ? null : activeTraceparent(this.#db)) ?? request?.traceparent
    if (traceparent == null) return null
    const name = this.#prefix === null ? {} : { application_name: this.#prefix + traceparent }
    return mergeSettings({ [this.#setting]: traceparent, ...name })
  }
}

const transactional = new Set(['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'WITH', 'VALUES', 'TABLE'])

/** Whether a setting may share the transaction of a statement that commits by itself: VACUUM and CALL must be alone. */
export function mayShareTransaction ({ text, several }: { readonly text: string, readonly several: boolean }): boolean {
  return !several && transactional.has(operationOf(text))
}
