import type { Engine } from '../../types/engine.ts'
import type {
  AcquireEvent, EngineIdentity, LeaseEvent, SessionIdentity, StatementEvent, TelemetryEvent, TransactionEvent
} from '../../types/telemetry.ts'
import {
  acquireChannel, connectChannel, leaseChannel, settleChannel, statementChannel, transactionChannel
} from '../telemetry/channels.ts'
import { followEnds, followStarts } from '../telemetry/follow.ts'
import { sanitized } from '../telemetry/query-text.ts'

const longestText = 500
const keptFailures = 50

/** What is shown of any event. Durations are in milliseconds. */
interface Shown {
  route: string | null
  request: string | null
  age: number
}

export interface ShownSession extends Shown {
  /** The state of the session; `idle in transaction` where it is active and no statement runs. */
  state: string
  /** Its last statement, without values. */
  statement: string | null
  /** Since that was called. */
  statementAge: number | null
  statements: number
}

export interface ShownFailure {
  /** ISO 8601. */
  time: string
  route: string | null
  request: string | null
  /** What failed: statement, acquire, connect or settle. */
  what: string
  code: string
  statement: string | null
}

/** What an engine does now, and what has failed recently, as its channels say. */
export class InFlight {
  readonly #transactions = new Set<TransactionEvent>()
  /** Statements that commit by themselves. */
  readonly #statements = new Set<StatementEvent>()
  readonly #waits = new Set<AcquireEvent>()
  readonly #leases = new Set<LeaseEvent>()
  readonly #last = new WeakMap<SessionIdentity, StatementEvent>()
  readonly #failures: ShownFailure[] = []
  #engine: EngineIdentity | null = null
  readonly #undo: (() => void)[]

  constructor (db: Engine) {
    this.#undo = [
      followStarts(db, transactionChannel, (event) => {
        if (event.kind === 'transaction') this.#transactions.add(event)
      }),
      followEnds(db, transactionChannel, (event) => this.#transactions.delete(event)),
      followStarts(db, statementChannel, (event) => {
        if (event.session === undefined) this.#statements.add(event)
        else this.#last.set(event.session, event)
      }),
      followEnds(db, statementChannel, (event) => {
        this.#statements.delete(event)
        this.#ended('statement', event, event.text)
      }),
      followStarts(db, acquireChannel, (event) => {
        this.#engine = event.engine
        this.#waits.add(event)
      }),
      followEnds(db, acquireChannel, (event) => {
        this.#waits.delete(event)
        this.#ended('acquire', event)
      }),
      followStarts(db, leaseChannel, (event) => this.#leases.add(event)),
      followEnds(db, leaseChannel, (event) => this.#leases.delete(event)),
      followEnds(db, connectChannel, (event) => this.#ended('connect', event)),
      followEnds(db, settleChannel, (event) => this.#ended('settle', event))
    ]
  }

  close (): void {
    for (const end of this.#undo) end()
  }

  /** Empty before the engine was used. */
  get target (): { host?: string, port?: number, database?: string, user?: string } {
    if (this.#engine === null) return {}
    const { host, port, database, user } = this.#engine
    return { host, port, database, user }
  }

  /** The oldest first. */
  sessions (): ShownSession[] {
    const transactions = Array.from(this.#transactions, (event) => {
      const last = this.#last.get(event.session)
      const { state } = event.session
      const isIdle = state === 'active' && last?.duration !== undefined
      return this.#session(event, isIdle ? 'idle in transaction' : state, last, event.statements)
    })
    const single = Array.from(this.#statements, (event) =>
      this.#session(event, event.attempts === 0 ? 'opening' : 'active', event, 1))
    return [...transactions, ...single].sort((one, other) => other.age - one.age)
  }

  #session (event: TelemetryEvent, state: string, last: StatementEvent | undefined, statements: number): ShownSession {
    return {
      ...shown(event),
      state,
      statement: last === undefined ? null : textOf(last.text),
      statementAge: last === undefined ? null : ageOf(last),
      statements
    }
  }

  /** Requests for a connection that wait, the oldest first. */
  waits (): Shown[] {
    return Array.from(this.#waits, shown).sort((one, other) => other.age - one.age)
  }

  /** Connections that are held longer than `threshold`, the longest first: perhaps leaks. */
  held (threshold: number): Shown[] {
    return Array.from(this.#leases, shown).filter(({ age }) => age > threshold)
      .sort((one, other) => other.age - one.age)
  }

  /** The newest first. */
  failures (): readonly ShownFailure[] {
    return this.#failures
  }

  #ended (what: string, event: TelemetryEvent, text?: string): void {
    const { error } = event
    if (error === undefined) return
    // Never its message, which may contain values.
    const { code, name } = (error ?? {}) as { code?: unknown, name?: unknown }
    const { route, request } = shown(event)
    this.#failures.unshift({
      time: new Date().toISOString(),
      route,
      request,
      what,
      code: typeof code === 'string' ? code : String(name ?? 'error'),
      statement: text === undefined ? null : textOf(text)
    })
    this.#failures.length = Math.min(this.#failures.length, keptFailures)
  }
}

function shown (event: TelemetryEvent): Shown {
  return { route: event.route ?? null, request: event.request?.id ?? null, age: ageOf(event) }
}

function ageOf ({ startTime }: TelemetryEvent): number {
  return Math.round(performance.now() - startTime)
}

function textOf (text: string): string {
  return sanitized(text).slice(0, longestText)
}
