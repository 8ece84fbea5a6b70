import type { TestPostgres } from '../../harness/postgres.ts'
import { accounts } from '../../harness/workload-statements.ts'

/** Half of each page stays free, so that an updated row finds place beside its old self. */
const schema = `
  CREATE TABLE accounts (id integer PRIMARY KEY, owner text NOT NULL, balance integer NOT NULL) WITH (fillfactor = 50);
  CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account integer NOT NULL, amount integer NOT NULL);
  INSERT INTO accounts SELECT n, 'owner-' || n, 0 FROM generate_series(1, ${accounts}) AS n;`

export async function createTables (postgres: TestPostgres): Promise<void> {
  await postgres.query(schema)
  await tidy(postgres)
}

/** What earlier rounds left would slow the later ones down. */
export async function tidy (postgres: TestPostgres): Promise<void> {
  await postgres.query('TRUNCATE entries')
  await postgres.query('VACUUM ANALYZE accounts')
}

export async function entries (postgres: TestPostgres): Promise<number> {
  return Number((await postgres.query('SELECT count(*) FROM entries')).rows[0].count)
}
