import type { Engine } from 'fastify-pg-scope'

const sql = `
  create table if not exists jobs (
    id bigint generated always as identity primary key,
    kind text not null,
    payload jsonb not null default '{}',
    run_at timestamptz not null default now(),
    attempts integer not null default 0,
    done_at timestamptz,
    failed_at timestamptz,
    error text
  );
  create index if not exists jobs_due on jobs (run_at, id) where done_at is null and failed_at is null;
  create table if not exists letters (
    id bigint generated always as identity primary key,
    receiver text not null,
    written_by integer not null
  )`

/** Any number will do, as long as nothing else in this database takes the same lock. */
const lock = 5_118_440_217

/** Workers that start at the same time wait for each other. */
export async function createSchema (db: Engine): Promise<void> {
  await db.scope(async (session) => {
    await session.query('select pg_advisory_xact_lock($1)', [lock])
    await session.query(sql)
  })
}
