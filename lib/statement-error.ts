import pg from 'pg'

/** The property that holds the text. It is not enumerable, so it is neither copied nor sent to a client. */
const text = Symbol('statement')

interface Attributed {
  [text]?: string
  cause?: unknown
  position?: string | undefined
}

/**
 * The text of the failed statement, as a property of an error's prototype. pino's serializer collects properties with
 * `for … in` and logs it. JSON.stringify(), a spread and Fastify's default error handler, which may send an error to
 * a client, omit it.
 */
export const statementProperty: PropertyDescriptor & ThisType<Attributed> = {
  enumerable: true,
  configurable: true,
  get () {
    return statementOf(this)
  }
}

/** The prototype of pg's error with `statement` added. */
const databaseError: object = Object.create(pg.DatabaseError.prototype, { statement: statementProperty })

/** The text of the failed statement, from the error or its causes; never the values. */
export function statementOf (error: unknown): string | undefined {
  for (let each = error; typeof each === 'object' && each !== null; each = (each as Attributed).cause) {
    const found = (each as Attributed)[text]
    if (found !== undefined) return found
  }
}

/**
 * Records on an error which statement failed. The first statement is kept: a lost connection fails all running
 * statements with the same error.
 *
 * @param ahead the number of characters that this package put before the user's text; `position` is reduced by them
 */
export function attribute (error: unknown, statement: string, ahead = 0): void {
  if (typeof error !== 'object' || error === null || Object.hasOwn(error, text)) return
  Object.defineProperty(error, text, { value: statement })
  if (!(error instanceof pg.DatabaseError)) return
  Object.setPrototypeOf(error, databaseError)
  if (ahead > 0 && error.position !== undefined) error.position = String(Math.max(1, Number(error.position) - ahead))
}
