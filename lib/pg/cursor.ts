import type { OwnedSession } from '../../types/session.ts'
import type { OpenedStream } from './client-progress.ts'
import { type Callback, answer } from './statement-arguments.ts'

/** As much of a cursor of pg-cursor as is replaced here. */
interface Cursor {
  readonly text: string
  readonly values: unknown[] | null
  readonly _conf: { rowMode?: 'array', types?: unknown }
  read (rows: number, callback?: Callback<unknown[]>): Promise<unknown[]> | undefined
  close (callback?: Callback<void>): Promise<void> | undefined
  emit (event: string, ...args: unknown[]): boolean
  listenerCount (event: string): number
}

/** The cursor of an object that was given to query(): a cursor, or a stream of pg-query-stream. Null for others. */
export function cursorOf (submittable: any): Cursor | null {
  const cursor = submittable.cursor ?? submittable
  const isCursor = typeof cursor.read === 'function' && typeof cursor.close === 'function' &&
    typeof cursor.text === 'string' && typeof cursor._conf === 'object'
  return isCursor ? cursor : null
}

/** Makes a cursor read the rows of a stream(). */
export function openCursor (cursor: Cursor, opened: Promise<OpenedStream>): void {
  const rows = new CursorRows(cursor, opened)
  cursor.read = (count, callback) => answer(rows.read(count), callback)
  cursor.close = (callback) => answer(rows.close(), callback)
}

class CursorRows {
  readonly #cursor: Cursor
  readonly #opened: Promise<AsyncIterator<unknown>>
  /** The session of this cursor alone. */
  #own: OwnedSession | null = null
  #isOver = false
  #last: Promise<unknown> = Promise.resolve()

  constructor (cursor: Cursor, opened: Promise<OpenedStream>) {
    this.#cursor = cursor
    this.#opened = opened.then(({ rows, own }) => {
      this.#own = own
      return rows[Symbol.asyncIterator]()
    })
    this.#opened.catch(() => {})
  }

  /** Reads in the order of the calls. */
  read (count: number): Promise<unknown[]> {
    const read = this.#last.then(() => this.#read(count))
    this.#last = read.catch(() => {})
    return read
  }

  async #read (count: number): Promise<unknown[]> {
    const found: unknown[] = []
    if (this.#isOver) return found
    try {
      const iterator = await this.#opened
      while (found.length < count) {
        const { done, value } = await iterator.next()
        if (done === true) {
          await this.#end()
          break
        }
        found.push(value)
      }
      return found
    } catch (error) {
      await this.close().catch(() => {})
      if (this.#cursor.listenerCount('error') > 0) this.#cursor.emit('error', error)
      throw error
    }
  }

  async #end (): Promise<void> {
    this.#isOver = true
    try {
      await this.#own?.commit()
    } finally {
      await this.#own?.close()
    }
    this.#cursor.emit('end', { rows: [] })
  }

  /** Leaves the rest of the rows. */
  async close (): Promise<void> {
    if (this.#isOver) return
    this.#isOver = true
    try {
      await (await this.#opened).return?.()
    } finally {
      await this.#own?.close()
    }
  }
}
