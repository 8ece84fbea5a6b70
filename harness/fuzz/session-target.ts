import type { Session } from '../../lib/index.ts'
import type { Refusal } from './program.ts'
import type { SavepointTarget, Target } from './target.ts'

export const schema = `
  CREATE TABLE fuzz (program int NOT NULL, session int NOT NULL, n int NOT NULL);
  CREATE TABLE owners (id int PRIMARY KEY);
  CREATE TABLE pets (owner int REFERENCES owners DEFERRABLE INITIALLY DEFERRED);
  CREATE FUNCTION conflict () RETURNS void LANGUAGE plpgsql AS $$
  BEGIN
    RAISE EXCEPTION 'by the program' USING ERRCODE = 'serialization_failure';
  END $$`

/** Longer than any program takes. Seconds. */
const long = 60

/** Whose rows are written. */
export interface Owner {
  program: number
  session: number
  attempt: number
  /** What the afterCommit() hooks have said. */
  hooked: number[]
}

export function slowInsert (db: Session, owner: Owner, n: number, signal?: AbortSignal): Promise<unknown> {
  const text = `INSERT INTO fuzz SELECT $1, $2, $3 FROM pg_sleep(${long})`
  return db.query({ text, values: [owner.program, owner.session, n], ...(signal && { signal }) })
}

export class SessionTarget implements Target {
  readonly #db: Session
  readonly #owner: Owner
  readonly #inside: boolean

  /** @param inside calls belong to a transaction(fn) */
  constructor (db: Session, owner: Owner, inside = false) {
    this.#db = db
    this.#owner = owner
    this.#inside = inside
  }

  /**
   * A call that is refused rejects at once, and fails the session in its turn: a program that goes on before would
   * depend on chance.
   */
  async #inTurn (call: Promise<unknown>): Promise<void> {
    await call.catch(async (error) => {
      await this.#db.query('SELECT 1').catch(() => {})
      throw error
    })
  }

  async insert (n: number): Promise<void> {
    const { program, session, hooked } = this.#owner
    await this.#db.query('INSERT INTO fuzz VALUES ($1, $2, $3)', [program, session, n])
    this.#db.afterCommit(() => { hooked.push(n) })
  }

  async doom (): Promise<void> { await this.#db.query('INSERT INTO pets VALUES (1)') }

  async fail (): Promise<void> { await this.#db.query('SELECT 1 / $1::int', [0]) }

  async conflict (): Promise<void> {
    await this.#db.query(this.#owner.attempt === 1 ? 'SELECT conflict()' : 'SELECT 1')
  }

  async read (): Promise<number[]> {
    const { program, session } = this.#owner
    const { rows } = await this.#db.query<{ n: number }>(
      'SELECT n FROM fuzz WHERE program = $1 AND session = $2 ORDER BY n', [program, session])
    return rows.map(({ n }) => n)
  }

  async cancel (n: number): Promise<void> {
    const controller = new AbortController()
    setTimeout(() => controller.abort(), n % 4)
    await this.#inTurn(slowInsert(this.#db, this.#owner, n, controller.signal))
  }

  async refuse (how: Refusal): Promise<void> {
    await this.#inTurn(this.#refuse(how))
  }

  async #refuse (how: Refusal): Promise<void> {
    const db = this.#db
    switch (how) {
      case 'transaction control': await db.query('COMMIT'); break
      case 'values': await db.query('SELECT 1', 'none' as unknown as []); break
      case 'transaction()': await db.transaction(undefined as unknown as () => void); break
      case 'aborted signal': await db.query({ text: 'SELECT 1', signal: AbortSignal.abort() }); break
      case 'batch size': await db.stream('SELECT 1', [], { batchSize: 0 }).toArray()
    }
  }

  async stream (rows: number, take: number): Promise<void> {
    let read = 0
    for await (const row of this.#db.stream<{ n: number }>('SELECT n FROM generate_series(1, $1) AS n', [rows], { batchSize: 2 })) {
      if (row.n !== ++read) throw new Error(`row ${row.n} in the place of ${read}`)
      if (read === take) break
    }
  }

  async failingStream (): Promise<void> {
    const rows = this.#db.stream('SELECT 1 / (4 - n) AS n FROM generate_series(1, $1) AS n', [5], { batchSize: 2 })
    for await (const row of rows) if (row.n < 0) throw new Error('a row behind the failure')
  }

  async transaction (fn: (inner: Target) => Promise<void>, outer: boolean): Promise<void> {
    await this.#db.transaction((inner) => fn(new SessionTarget(outer ? this.#db : inner, this.#owner, true)))
  }

  async savepoint (): Promise<SavepointTarget> {
    const savepoint = await this.#db.savepoint()
    return {
      release: () => savepoint.release(),
      rollback: () => savepoint.rollback(),
      dispose: async () => { await savepoint[Symbol.asyncDispose]() }
    }
  }

  async together (calls: readonly (() => Promise<void>)[]): Promise<void> {
    const results = await Promise.allSettled(calls.map((call) => call()))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  async commit (): Promise<void> { await this.#settle('commit') }
  async rollback (): Promise<void> { await this.#settle('rollback') }

  async #settle (how: 'commit' | 'rollback'): Promise<void> {
    await (this.#inside ? this.#inTurn(this.#db[how]()) : this.#db[how]())
  }

  async setRollbackOnly (): Promise<void> { this.#db.setRollbackOnly() }
}
