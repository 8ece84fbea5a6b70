// What one session keeps of the transactions that libraries have begun and ended on it.
import * as v8 from 'node:v8'
import t from 'tap'
import { clientOf } from '../../../lib/pg/index.ts'
import { ObservedPromise } from '../../../lib/observed-promise.ts'
import { ClientContext } from '../../../lib/session/clients/client-context.ts'
import { ClientTransaction } from '../../../lib/session/clients/client-transaction.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session } from '../../../types/session.ts'
import { startShop } from './shop.ts'

const { queryObjects } = v8 as unknown as { queryObjects (constructor: Function): number }
const postgres = await startTestPostgres(t)

t.test('a long scope keeps nothing of the transactions that have ended in it', async (t) => {
  const { db } = await startShop(t, postgres)
  const kinds: Record<string, (session: Session) => Promise<unknown>> = {
    'a transaction of a library': async (session) => {
      const client = clientOf(session)
      await client.query('BEGIN')
      await client.query('SELECT 1')
      await client.query('COMMIT')
    },
    'a transaction inside of another one': async (session) => {
      const [outer, inner] = [clientOf(session), clientOf(session)]
      await outer.query('BEGIN')
      await inner.query('BEGIN')
      await inner.query('ROLLBACK')
      await outer.query('COMMIT')
    },
    'a transaction(fn)': (session) => session.transaction((inner) => inner.query('SELECT 1'))
  }
  for (const mode of ['transaction', 'autocommit'] as const) {
    for (const [name, run] of Object.entries(kinds)) {
      await db.scope(async (session) => {
        for (let i = 0; i < 100; i++) await run(session)
        for (const kept of [ObservedPromise, ClientContext, ClientTransaction]) {
          const count = queryObjects(kept)
          t.ok(count < 20, `${mode}, ${name}: ${count} of ${kept.name}`)
        }
      }, { mode })
    }
    await db.scope(async (session) => {
      const client = clientOf(session)
      let last!: Promise<unknown>
      for (let i = 0; i < 100; i++) {
        client.query('BEGIN')
        const answered = client.query('SELECT 1')
        last = client.query('COMMIT')
        await answered
      }
      await last
      const count = queryObjects(ClientContext)
      t.ok(count < 20, `${mode}: a COMMIT that is not awaited: ${count}`)
    }, { mode })
  }
})
