import type { FastifyInstance } from 'fastify'
import type { Engine } from '../../types/engine.ts'
import type { TelemetryEvent } from '../../types/telemetry.ts'
import type { ResolvedOptions } from '../config/options.ts'
import { statementChannel, transactionChannel } from '../telemetry/channels.ts'
import { followEndsInContext } from '../telemetry/follow.ts'
import { sanitized } from '../telemetry/query-text.ts'

/** The longest text that is logged. */
const longestText = 1000

type Thresholds = Pick<ResolvedOptions, 'slowStatementThreshold' | 'slowTransactionThreshold'>

/** Logs statements and transactions that take longer than their threshold, until the app has closed. */
export function logSlowWork (
  app: FastifyInstance, db: Engine, { slowStatementThreshold, slowTransactionThreshold }: Thresholds
): void {
  const { log } = app
  const label = app.initialConfig.requestIdLogLabel || 'reqId'
  const common = ({ route, request, duration }: TelemetryEvent, waitTime: number | undefined): object => ({
    ...(request !== undefined && { [label]: request.id, route }),
    duration: rounded(duration),
    waitTime: rounded(waitTime)
  })
  const undo: (() => void)[] = []
  if (slowStatementThreshold > 0) {
    undo.push(followEndsInContext(db, statementChannel, (event) => {
      if (event.duration! < slowStatementThreshold) return
      log.warn({
        ...common(event, event.waitTime),
        kind: event.kind === 'query' ? undefined : event.kind,
        rows: event.rowCount ?? undefined,
        statement: sanitized(event.text).slice(0, longestText),
        ...failure(event)
      }, 'a statement took longer than slowStatementThreshold')
    }))
  }
  if (slowTransactionThreshold > 0) {
    undo.push(followEndsInContext(db, transactionChannel, (event) => {
      const { kind, waitTime, statements, rows, outcome } = event
      if (kind === 'savepoint' || event.duration! < slowTransactionThreshold) return
      log.warn({ ...common(event, waitTime), statements, rows, outcome, ...failure(event) },
        'a transaction took longer than slowTransactionThreshold')
    }))
  }
  if (undo.length > 0) app.addHook('onClose', async () => { for (const end of undo) end() })
}

/** The code of an error; its message may contain values. */
function failure ({ error }: TelemetryEvent): { code?: unknown } {
  return error === undefined ? {} : { code: (error as { code?: unknown } | null)?.code }
}

/** Milliseconds, to the tenth. */
function rounded (duration: number | undefined): number | undefined {
  return duration === undefined ? undefined : Math.round(duration * 10) / 10
}
