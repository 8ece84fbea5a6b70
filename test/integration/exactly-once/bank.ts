import type { Test } from 'tap'
import { type LoggedApp, type LoggedAppOptions, openLoggedApp } from '../../../harness/logged-app.ts'
import type { Session } from '../../../harness/plugin.ts'
import { startTestPostgres, type TestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const schema = `
  CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
  CREATE TABLE doctor (name text PRIMARY KEY, on_call boolean NOT NULL);
  CREATE TABLE entry (text text NOT NULL, seconds float8 NOT NULL DEFAULT 0);
  CREATE FUNCTION sleep_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_sleep(NEW.seconds);
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.seconds > 0) EXECUTE FUNCTION sleep_at_commit();`

export interface LogLine extends Record<string, unknown> {
  level: number
  msg: string
  err?: { code?: string, message: string, stack: string, notRetried?: string, attempt?: number }
}

export type BankOptions = LoggedAppOptions

export interface Bank extends LoggedApp<LogLine> {
  /** The committed texts of `entry`, as another connection sees them. */
  entries (): Promise<string[]>
}

/** @param parent default: the file */
export type BankTest = (
  name: string, options: BankOptions, body: (t: Test, bank: Bank) => Promise<void>, parent?: Test
) => Promise<unknown>

/** Starts a server for one file; each test gets an app, four accounts with 100 each, two doctors on call, no entry. */
export async function bankCases (file: Test): Promise<{ postgres: TestPostgres, test: BankTest }> {
  const postgres = await startTestPostgres(file)
  await postgres.query(schema)
  return {
    postgres,
    test: (name, options, body, parent = file) => parent.test(name, async (t) => {
      await postgres.query('TRUNCATE account, doctor, entry')
      await postgres.query('INSERT INTO account SELECT id, 100 FROM generate_series(1, 4) AS id')
      await postgres.query('INSERT INTO doctor VALUES (\'alice\', true), (\'bob\', true)')
      const bank = await open(postgres, options)
      t.teardown(() => bank.app.close())
      await body(t, bank)
      if (!bank.app.hasDecorator('db')) return
      await waitFor(() => bank.app.db.stats().inUse === 0, { message: 'every connection is back' })
      t.equal(bank.app.db.stats().oldestTransaction, 0, 'no transaction is open')
    })
  }
}

async function open (postgres: TestPostgres, options: BankOptions): Promise<Bank> {
  return {
    ...await openLoggedApp<LogLine>(postgres.connectionString, options),
    async entries () {
      return (await postgres.query('SELECT text FROM entry ORDER BY 1')).rows.map(({ text }) => text)
    }
  }
}

/** Moves money as a program does that computes in JavaScript: right only if transactions are isolated. */
export async function transfer (db: Session, from: number, to: number, amount: number): Promise<void> {
  const balance = async (id: number): Promise<number> =>
    (await db.query('SELECT balance FROM account WHERE id = $1', [id])).rows[0].balance
  const [a, b] = [await balance(from), await balance(to)]
  await db.query('UPDATE account SET balance = $1 WHERE id = $2', [a - amount, from])
  await db.query('UPDATE account SET balance = $1 WHERE id = $2', [b + amount, to])
}

/** A promise for a test to resolve when it likes. */
export function gate (): { opened: Promise<void>, open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open }
}
