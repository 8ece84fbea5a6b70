import type { TransactionOptions } from '../../types/options.ts'
import type { Running } from './cancellation.ts'
import type { Statement } from './statement.ts'

/** How long a connection that owes an answer may send nothing. Milliseconds; 0: no limit. */
export interface AnswerTimeout {
  /** The limit for a batch, whatever it contains. */
  readonly whole: number
  /** The limit for each statement of a batch; `grace` is added to the sum. */
  readonly each: number
  /** The limit on a serial connection if neither of the others gives one. */
  readonly serial: number
}

/**
 * Added to the server's own limits, so that the server's error arrives first. While no server connection is free,
 * PgBouncer delays a batch for up to query_wait_timeout (10 s in docs/pgbouncer.ini), and its error arrives first too.
 */
const grace = 10000

/** The default on a serial connection. As long as `idleInTransactionTimeout` by default. */
const serialTimeout = 60000

/** The longest delay of a Node timer. */
const longestDelay = 2147483647

export function answerTimeoutOf (options: TransactionOptions): AnswerTimeout {
  const { answerTimeout, statementTimeout = 0, transactionTimeout = 0 } = options
  if (answerTimeout !== undefined) return { whole: answerTimeout, each: 0, serial: answerTimeout }
  const whole = transactionTimeout === 0 ? 0 : transactionTimeout + grace
  return { whole, each: statementTimeout, serial: serialTimeout }
}

/**
 * The limit for a batch. The server may send nothing until the last statement has run.
 *
 * @param isSerial the connection leads to a pooler that does not identify itself, which may lose the answer
 */
export function batchTimeout (
  { whole, each, serial }: AnswerTimeout, statements: readonly Statement[], isSerial = false
): number {
  // The number of statements in one text is unknown, and each of them may run up to its limit.
  const isUnlimited = each === 0 || statements.some(({ several }) => several)
  const sum = isUnlimited ? Infinity : statements.length * each + grace
  const limit = Math.min(whole || Infinity, sum)
  if (limit === Infinity) return isSerial ? serial : 0
  return Math.min(limit, longestDelay)
}

const nothing = (): void => {}

/**
 * Destroys a connection that owes an answer and has sent nothing for too long. On a network that drops all packets the
 * kernel would retry for about 15 minutes, and an error of the server could not arrive.
 *
 * @param kind a statement is also cancelled, in case the server is only slow; a COMMIT is not
 * @returns call it when the answer has arrived
 */
export function watchForAnswer (running: Running, limit: number, kind: 'statement' | 'end'): () => void {
  if (limit === 0) return nothing
  const { connection } = running.lease
  let began: number
  let timer: NodeJS.Timeout | undefined
  let isAnswered = false
  let immediate: NodeJS.Immediate | undefined
  const silence = (): number => performance.now() - Math.max(began, connection.lastHeard)
  const check = (): void => {
    const left = limit - silence()
    if (left > 0) timer = setTimeout(check, Math.ceil(left))
    // A process whose event loop was blocked has not read yet what has arrived meanwhile.
    else immediate = setImmediate(() => silence() < limit ? check() : lose())
  }
  const lose = (): void => {
    connection.destroy(new Error(`the server owed an answer and sent nothing for ${limit} ms (answerTimeout)`))
    if (kind === 'end') return
    running.canceled()
    connection.cancel()
  }
  // While the previous session's COMMIT is unanswered, that session's limit applies.
  const begin = (): void => {
    if (isAnswered) return
    began = performance.now()
    timer = setTimeout(check, limit)
  }
  if (kind === 'end') begin()
  else connection.whenCommitAnswered(begin)
  return () => {
    isAnswered = true
    clearTimeout(timer)
    clearImmediate(immediate)
  }
}
