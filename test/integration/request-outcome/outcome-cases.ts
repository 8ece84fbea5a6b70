import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type LoggedApp, type LoggedAppOptions, openLoggedApp } from '../../../harness/logged-app.ts'
import { startTestPostgres, type TestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

/** `unique_note` and `slow` are checked by COMMIT: the first against duplicates, the second as slowly and with the SQLSTATE that its row asks for. */
const schema = `
  CREATE TABLE note (text text NOT NULL);
  CREATE TABLE unique_note (text text UNIQUE DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE slow (text text NOT NULL, seconds float8 NOT NULL, sqlstate text);
  CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_sleep(NEW.seconds);
    IF NEW.sqlstate IS NOT NULL THEN
      RAISE EXCEPTION 'refused by COMMIT' USING ERRCODE = NEW.sqlstate;
    END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit();`

export interface LogLine {
  level: number
  msg: string
  err?: { code?: string, message: string, stack: string, details?: string }
}

export type CaseOptions = LoggedAppOptions

/** What a test gets: an app of its own on the file's server, with empty tables. */
export interface Case extends LoggedApp<LogLine> {
  /** The committed rows of all tables, as another connection sees them. */
  saved (): Promise<string[]>
  /** The statements that run on the server, or keep a transaction open. */
  busy (): Promise<string[]>
}

// Whatever nobody handled belongs to the test that runs at the moment. The first kind would end the process unseen here.
const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => unhandled.push(reason))
process.on('uncaughtExceptionMonitor', (error) => unhandled.push(error))

/** Starts a server for one file. Each test ends with the proof that its requests left nothing behind. */
export async function outcomeCases (file: Test): Promise<{ postgres: TestPostgres, test: (name: string, options: CaseOptions, body: (t: Test, parts: Case) => Promise<void>) => Promise<unknown> }> {
  const postgres = await startTestPostgres(file)
  await postgres.query(schema)
  return {
    postgres,
    test: (name, options, body) => file.test(name, async (t) => {
      await postgres.query('TRUNCATE note, unique_note, slow')
      const parts = await open(postgres, options)
      t.teardown(() => parts.app.close())
      await body(t, parts)
      await leavesNothing(t, postgres, parts)
    })
  }
}

async function open (postgres: TestPostgres, options: CaseOptions): Promise<Case> {
  return {
    ...await openLoggedApp<LogLine>(postgres.connectionString, options),
    async saved () {
      const { rows } = await postgres.query(
        'SELECT text FROM note UNION ALL SELECT text FROM unique_note UNION ALL SELECT text FROM slow ORDER BY 1')
      return rows.map(({ text }) => text)
    },
    busy: () => busy(postgres)
  }
}

async function busy (postgres: TestPostgres): Promise<string[]> {
  return (await postgres.activity()).filter(({ state }) => state !== 'idle').map(({ state, query }) => `${state}: ${query}`)
}

async function leavesNothing (t: Test, postgres: TestPostgres, { app, log }: Case): Promise<void> {
  for (const name of ['db', 'reporting'] as const) {
    const engine = (app as unknown as Record<string, FastifyInstance['db'] | undefined>)[name]
    if (engine === undefined) continue
    await waitFor(() => engine.stats().inUse === 0 && engine.stats().waiting === 0, { message: `${name}: every connection is back` })
    t.equal(engine.stats().oldestTransaction, 0, `${name}: no transaction is open`)
    t.same((await engine.query('SELECT 1 AS one')).rows, [{ one: 1 }], `${name}: the pool serves the next`)
  }
  await waitFor(async () => (await busy(postgres)).length === 0, { message: 'no backend is in a transaction' })
  await app.close()
  t.notOk(log.some(({ msg }) => msg.startsWith('closeTimeout has elapsed')), 'no session was left open')
  await waitFor(async () => (await postgres.activity()).length === 0, { message: 'every backend is gone' })
  await new Promise(setImmediate)
  t.same(unhandled.splice(0), [], 'nothing went unhandled')
}

/** A promise for a test to resolve when it likes. */
export function gate (): { opened: Promise<void>, open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open }
}
