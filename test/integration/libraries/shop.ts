// The tables that the tests of query builders use, and an app in front of them.
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { type PgProxy, startPgProxy } from '../../../harness/pg-proxy.ts'
import type { TestPostgres } from '../../../harness/postgres.ts'

const tables = `
  CREATE TABLE person (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    full_name text NOT NULL CONSTRAINT person_name_taken UNIQUE,
    balance int NOT NULL DEFAULT 0
  );
  CREATE TABLE pet (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id int NOT NULL REFERENCES person DEFERRABLE INITIALLY DEFERRED,
    name text NOT NULL
  );
  INSERT INTO person (full_name, balance) VALUES ('Ada', 10), ('Grace', 20);
  INSERT INTO pet (owner_id, name) VALUES (1, 'Rex'), (1, 'Tom'), (2, 'Kit')`

/**
 * An app on a database of its own. Nothing was counted yet, and one connection is open.
 *
 * @param log where errors are logged
 */
export async function startShop (
  t: Test, postgres: TestPostgres, options: PgScopeOptions = {}, log?: { write: (line: string) => void }
) {
  const database = await postgres.createDatabase()
  await postgres.query(tables, undefined, database)
  const proxy: PgProxy = await startPgProxy(t, postgres)
  const app = log === undefined ? Fastify() : Fastify({ logger: { level: 'error', stream: log } }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: proxy.connectionString(database), ...options })
  await app.db.query('SELECT 1')
  proxy.reset()
  return {
    app,
    db: app.db,
    proxy,
    database,
    /** Who is stored, as another connection sees it. */
    people: async (): Promise<string[]> => {
      const { rows } = await postgres.query('SELECT full_name FROM person ORDER BY id', undefined, database)
      return rows.map((row) => row.full_name)
    }
  }
}
