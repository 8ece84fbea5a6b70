import pg from 'pg'

/** The property that holds the text: not enumerable, so that it is copied and sent nowhere. */
const text = Symbol('statement')

interface Attributed {
  [text]?: string
  cause?: unknown
  position?: string | undefined
}

/**
 * The text of the statement that failed, as a property of an error's prototype: `for … in`, by which pino's serializer collects what
 * it logs, sees it there, and what may reach a client (JSON.stringify, a spread, Fastify's own error handler) does not.
 */
export const statementProperty: PropertyDescriptor & ThisType<Attributed> = {
  enumerable: true,
  configurable: true,
  get () {
    return statementOf(this)
  }
}

/** Everything else about pg's error stays as it is. */
const databaseError: object = Object.create(pg.DatabaseError.prototype, { statement: statementProperty })

/** The text of the statement that failed, told by the error or by what caused it; never the values. */
export function statementOf (error: unknown): string | undefined {
  for (let each = error; typeof each === 'object' && each !== null; each = (each as Attributed).cause) {
    const found = (each as Attributed)[text]
    if (found !== undefined) return found
  }
}

/**
 * Writes on an error which statement failed. The first statement counts: a lost connection fails all that were under way with one error.
 *
 * @param ahead how many characters of ours stood in front of the user's text: `position` is counted without them
 */
export function attribute (error: unknown, statement: string, ahead = 0): void {
  if (typeof error !== 'object' || error === null || Object.hasOwn(error, text)) return
  Object.defineProperty(error, text, { value: statement })
  if (!(error instanceof pg.DatabaseError)) return
  Object.setPrototypeOf(error, databaseError)
  if (ahead > 0 && error.position !== undefined) error.position = String(Math.max(1, Number(error.position) - ahead))
}
