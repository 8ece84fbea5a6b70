import type { TestPostgres } from '../../../harness/postgres.ts'

/** A statement that fails like one of a transaction that does not fit a concurrent one. */
export const conflict = 'DO $$ BEGIN RAISE EXCEPTION \'a conflict\' USING ERRCODE = \'40001\'; END $$'

/** After it, COMMIT fails if the transaction inserts an entry. */
export const late = `DO $$ BEGIN
  CREATE CONSTRAINT TRIGGER late AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION conflict();
END $$`

export const insert = 'INSERT INTO entry (text) VALUES ($1)'

/** What `late` needs. */
export async function prepareConflicts (postgres: TestPostgres): Promise<void> {
  await postgres.query(`CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001'; END $$`)
}
