import { type Attributes, context, SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api'
import type { StatementEvent, TelemetryEvent, TransactionEvent } from '../../types/telemetry.ts'
import { errorAttributes, serverAttributes } from './attributes.ts'
import { operationOf, sanitized, summaryOf } from '../telemetry/query-text.ts'

/**
 * Makes the span of an operation that has ended: none can be left open. It is called in the async context of the
 * caller, whose active span is the parent.
 */
function span (tracer: Tracer, name: string, event: TelemetryEvent, attributes: Attributes): void {
  const errors = errorAttributes(event)
  const startTime = Date.now() - (performance.now() - event.startTime)
  const kind = SpanKind.CLIENT
  const all = { ...serverAttributes(event.engine), ...attributes, ...errors }
  const span = tracer.startSpan(name, { kind, startTime, attributes: all }, context.active())
  if (event.error !== undefined) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: String(errors['error.type']) })
  }
  span.end(startTime + event.duration!)
}

export function statementSpan (tracer: Tracer, event: StatementEvent): void {
  const operation = operationOf(event.text)
  const summary = summaryOf(event.text, operation)
  const attributes: Attributes = {
    'db.query.text': sanitized(event.text),
    'db.query.summary': summary,
    'db.operation.name': event.kind === 'query' ? operation : event.kind.toUpperCase()
  }
  if (event.batchSize > 1) attributes['db.operation.batch.size'] = event.batchSize
  if (typeof event.rowCount === 'number' && event.command === 'SELECT') {
    attributes['db.response.returned_rows'] = event.rowCount
  }
  if (event.waitTime !== undefined) attributes['pg_scope.statement.wait_time'] = event.waitTime / 1000
  if (event.attempts > 1) attributes['pg_scope.statement.attempts'] = event.attempts
  span(tracer, event.kind === 'query' ? summary : `${event.kind.toUpperCase()} ${summary}`, event, attributes)
}

const outcomes = {
  committed: 'committed',
  rolledBack: 'rolled_back',
  released: 'released',
  unknown: 'unknown'
} as const

export function transactionSpan (tracer: Tracer, event: TransactionEvent): void {
  const { kind, name, waitTime, readOnly, outcome } = event
  const attributes: Attributes = {
    'db.operation.name': kind === 'savepoint' ? 'SAVEPOINT' : 'BEGIN',
    'pg_scope.transaction.outcome': outcomes[outcome!]
  }
  if (waitTime !== undefined) attributes['pg_scope.transaction.wait_time'] = waitTime / 1000
  if (readOnly) attributes['pg_scope.transaction.read_only'] = true
  if (kind === 'transaction') attributes['pg_scope.transaction.begin'] = name
  span(tracer, kind, event, attributes)
}
