import type { TransactionOptions } from '../../types/options.ts'
import type { Running } from './cancellation.ts'
import type { Statement } from './statement.ts'

/** How long a connection may owe an answer without a word, in milliseconds: 0 for no limit. */
export interface AnswerTimeout {
  /** Whatever was sent. */
  readonly whole: number
  /** For each statement of a batch, and once more `grace`. */
  readonly each: number
}

/**
 * By how much the server's own limit comes first. PgBouncer holds a batch back as long as its query_wait_timeout while no connection
 * to the server is free, and has the first word there as well (10 s in docs/pgbouncer.ini).
 */
const grace = 10000

/** The longest that a timer takes. */
const longest = 2147483647

export function answerTimeoutOf ({ answerTimeout, statementTimeout = 0, transactionTimeout = 0 }: TransactionOptions): AnswerTimeout {
  if (answerTimeout !== undefined) return { whole: answerTimeout, each: 0 }
  return { whole: transactionTimeout === 0 ? 0 : transactionTimeout + grace, each: statementTimeout }
}

/** The limit for a batch. The server may be silent until the last of its statements is through. */
export function batchTimeout ({ whole, each }: AnswerTimeout, statements: readonly Statement[]): number {
  // How many statements a text of several holds is not known, and each may take as long as any.
  const sum = each === 0 || statements.some(({ several }) => several) ? Infinity : statements.length * each + grace
  const limit = Math.min(whole || Infinity, sum)
  return limit === Infinity ? 0 : Math.min(limit, longest)
}

const nothing = (): void => {}

/**
 * Takes a connection for lost on which nothing at all has come for too long although it owes an answer: on a network that swallows
 * everything the kernel would try for a quarter of an hour, and no limit of the server's can reach us.
 *
 * @param kind a statement is cancelled as well, for a server that is only slow; a COMMIT is left to it
 * @returns to be called when the answer has come
 */
export function watchForAnswer (running: Running, limit: number, kind: 'statement' | 'end'): () => void {
  if (limit === 0) return nothing
  const { connection } = running.lease!
  let began: number
  let timer: NodeJS.Timeout | undefined
  let over = false
  let immediate: NodeJS.Immediate | undefined
  const quiet = (): number => performance.now() - Math.max(began, connection.lastHeard)
  const look = (): void => {
    const left = limit - quiet()
    if (left > 0) timer = setTimeout(look, Math.ceil(left))
    // A process that was busy for so long has not read yet what has come meanwhile.
    else immediate = setImmediate(() => quiet() < limit ? look() : lose())
  }
  const lose = (): void => {
    connection.destroy(new Error(`nothing came from the server for ${limit} ms (answerTimeout), although it owed an answer`))
    if (kind === 'end') return
    running.canceled()
    connection.cancel()
  }
  // Until a COMMIT in front is answered its own session waits, as long as that one may.
  const begin = (): void => {
    if (over) return
    began = performance.now()
    timer = setTimeout(look, limit)
  }
  if (kind === 'end') begin()
  else connection.whenCommitAnswered(begin)
  return () => {
    over = true
    clearTimeout(timer)
    clearImmediate(immediate)
  }
}
