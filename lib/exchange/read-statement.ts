import { pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import { isIdentifier, longestIdentifier } from '../postgres/identifier.ts'
import type { StatementConfig } from '../../types/query.ts'
import { Call } from './call.ts'
import { invalidQuery } from './invalid-query.ts'
import { checkTextSize, parametersOf } from './parameters.ts'
import { readConfig } from './statement-config.ts'
import { readSignal } from './statement-signal.ts'
import { type KnownText, knownText } from './statement-text.ts'

/**
 * Validates the arguments of query() and makes a Call of them.
 *
 * @param alone the statement is sent outside a transaction
 * @throws FST_PG_SCOPE_QUERY_INVALID, FST_PG_SCOPE_TRANSACTION_CONTROL
 */
export function readStatement (textOrConfig: unknown, values?: unknown, alone = false): Call {
  const config = typeof textOrConfig === 'object' && textOrConfig !== null ? readConfig(textOrConfig) : undefined
  const text = config === undefined ? textOrConfig : config.text
  const given = values ?? config?.values ?? []
  if (typeof text !== 'string') throw invalidQuery(`the text must be a string, got ${kindOf(text)}`)
  checkTextSize(text)
  if (text.includes('\0')) throw invalidQuery('the text must not contain a zero byte: PostgreSQL cannot store it')
  if (typeof given === 'function') throw invalidQuery('callbacks are not called: await the promise')
  if (!Array.isArray(given)) throw invalidQuery(`\`values\` must be an array, got ${kindOf(given)}`)
  if (config !== undefined) checkFields(config)
  const signal = readSignal(config?.signal)
  const known = knownText(text)
  if (known.kind === 'transaction-control' && !(known.endsPrepared && alone)) throw transactionControl(text, known)
  const isSimple = known.kind === 'several' && given.length === 0 && !config?.name
  const call = new Call(text, parametersOf(given), config, isSimple)
  call.automatic = known.uses >= known.usesBeforePreparing && known.hasStablePlan
  call.hasStablePlan = call.automatic || (call.name !== undefined && known.hasStablePlan)
  call.unprepared = config?.prepare === false
  call.altersMeaning = known.altersMeaning
  call.isCopy = known.isCopy
  call.signal = signal
  call.deallocates = known.deallocates
  call.goesFirst = known.goesFirst
  call.changesMode = known.changesMode
  call.hasOtherEffects = known.hasOtherEffects
  call.writes = known.writes
  call.traces = known.traces
  known.uses++
  return call
}

function checkFields ({ name, rowMode, prepare }: StatementConfig): void {
  // An empty name counts as none.
  if (name !== undefined && name !== '' && !isIdentifier(name)) {
    throw invalidQuery(`\`name\` must be a string of at most ${longestIdentifier} bytes without a zero byte`)
  }
  if (rowMode !== undefined && rowMode !== 'array') throw invalidQuery('`rowMode` must be \'array\' or undefined')
  if (prepare !== undefined && typeof prepare !== 'boolean') {
    throw invalidQuery(`\`prepare\` must be a boolean, got ${kindOf(prepare)}`)
  }
  if (prepare === false && name) {
    throw invalidQuery('`name` prepares the statement, but `prepare: false` forbids it: omit one of them')
  }
}

function transactionControl (text: string, { endsPrepared }: KnownText): Error {
  const command = text.trim().split(/\s/, 1)[0]!.slice(0, 20).toUpperCase()
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', endsPrepared
    ? 'COMMIT PREPARED and ROLLBACK PREPARED cannot run in a transaction. ' +
      'Use app.db.query(), which sends the statement by itself.'
    : `${command} is sent by the session only. Use commit() and rollback(), and transaction(fn) for a savepoint.`)
}
