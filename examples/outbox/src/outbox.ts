import type { Session } from 'fastify-pg-scope'

export const schema = `
  create table if not exists outbox (
    id bigint generated always as identity primary key,
    key text not null,
    kind text not null,
    payload jsonb not null,
    attempts integer not null default 0,
    not_before timestamptz not null default now()
  );
  create index if not exists outbox_order on outbox (key, id);`

export interface OutboxEvent {
  /** Grows with each event of a key. A receiver that remembers it can ignore what it gets twice. */
  id: string
  /** What the order holds for: the id of an account, for example. */
  key: string
  kind: string
  payload: unknown
  attempts: number
}

/** Passes an event on. It may be called again for the same event, if the worker dies before COMMIT. */
export type Deliver = (event: OutboxEvent) => Promise<void>

/**
 * Writes an event in the transaction of the session: it exists if, and only if, the work is committed. Transactions
 * with events of the same key wait for each other from here to their COMMIT, so that their ids grow in the order of
 * their commits.
 */
export async function publish (session: Session, key: string, kind: string, payload: unknown): Promise<void> {
  await session.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [key])
  await session.query('insert into outbox (key, kind, payload) values ($1, $2, $3)', [key, kind, JSON.stringify(payload)])
}

/** The first event of any key that no other worker has: the later ones of a key wait until it is gone. */
const nextOfAny = `
  select id, key, kind, payload, attempts from outbox as event
   where not_before <= now()
     and not exists (select from outbox as earlier where earlier.key = event.key and earlier.id < event.id)
   order by id limit 1
     for update skip locked`

/** The first event of one key. A worker that has it is waited for. */
const nextOfKey = `
  select id, key, kind, payload, attempts from outbox
   where key = $1 order by id limit 1 for update`

/**
 * Delivers one event, and removes it, in the transaction of the session: whatever ends the worker before COMMIT, the
 * event is still there.
 *
 * @param key only the events of this key
 * @returns whether there was one
 */
export async function deliverNext (session: Session, deliver: Deliver, key?: string): Promise<boolean> {
  const { rows: [event] } = key === undefined
    ? await session.query<OutboxEvent>(nextOfAny)
    : await session.query<OutboxEvent>(nextOfKey, [key])
  if (event === undefined) return false
  await deliver(event)
  await session.query('delete from outbox where id = $1', [event.id])
  return true
}

/** Lets the key of an event that could not be delivered rest. Its later events wait too. */
export async function postpone (session: Session, { id, attempts }: OutboxEvent): Promise<void> {
  await session.query('update outbox set attempts = attempts + 1, not_before = now() + make_interval(secs => $2) where id = $1', [
    id, Math.min(60, 0.05 * 2 ** attempts)
  ])
}
