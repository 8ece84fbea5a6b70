import PgBoss from 'pg-boss'
import type { Engine, Session } from 'fastify-pg-scope'
import { poolOf } from 'fastify-pg-scope/pg'
import { deliverNext, type Deliver } from './outbox.ts'

const queue = 'outbox'

/** For the requests: pg-boss on the app's connections, so that send() can be part of a transaction. */
export async function startBoss (db: Engine): Promise<PgBoss> {
  const pool = poolOf(db)
  const executeSql = (text: string, values: unknown[]) => pool.query(text, values)
  const boss = new PgBoss({ db: { executeSql }, supervise: false, schedule: false })
  await boss.start()
  await boss.createQueue(queue)
  return boss
}

/**
 * Asks for the delivery of a key's events, in the transaction of the session. The order is that of the outbox.
 *
 * @param expireInSeconds when a job whose worker does not answer is run again
 */
export async function requestDelivery (
  boss: PgBoss, session: Session, key: string, expireInSeconds = 60
): Promise<void> {
  const db = { executeSql: async (text: string, values: unknown[]) => await session.query(text, values) }
  await boss.send(queue, { key }, { db, retryLimit: 100, retryDelay: 1, expireInSeconds })
}

/**
 * For the workers: pg-boss with connections of its own, over which it also looks for jobs whose worker has died. It
 * cannot do that over the connections of the app, as it begins and ends transactions by itself.
 */
export async function startBossWorker (connectionString: string): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString, max: 2, schedule: false, maintenanceIntervalSeconds: 2 })
  await boss.start()
  await boss.createQueue(queue)
  return boss
}

/** A job brings away all events of its key; another job of the same key may have done its work meanwhile. */
export async function workBoss (boss: PgBoss, db: Engine, deliver: Deliver): Promise<void> {
  await boss.work<{ key: string }>(queue, { pollingIntervalSeconds: 0.5 }, async (jobs) => {
    for (const { data: { key } } of jobs) {
      while (await db.scope((session) => deliverNext(session, deliver, key))) { /* the next one */ }
    }
  })
}
