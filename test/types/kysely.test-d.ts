import Fastify from 'fastify'
import type { Generated, Kysely, Transaction } from 'kysely'
import { kyselyOf } from '../../lib/kysely/index.ts'
import type { Mode } from '../../lib/index.ts'
import { typeOf } from './expect.ts'

interface Database { accounts: { id: Generated<number>, owner: string } }

const { db } = Fastify()
const session = db.session()
typeOf(session.mode).is<Mode>()

const kysely = kyselyOf<Database>(session)
typeOf(kysely).is<Kysely<Database>>()
typeOf(kyselyOf<Database>(db)).is<Kysely<Database>>()
typeOf(kyselyOf<Database>(() => session, { log: ['error'], plugins: [] })).is<Kysely<Database>>()
const rows = await kysely.selectFrom('accounts').selectAll().execute()
typeOf(rows).is<Array<{ id: number, owner: string }>>()
await kysely.transaction().execute(async (trx) => { typeOf(trx).is<Transaction<Database>>() })
// @ts-expect-error no such table
kysely.selectFrom('nothing')
// @ts-expect-error neither a session nor an engine
kyselyOf<Database>({})
// @ts-expect-error no such option
kyselyOf<Database>(session, { dialect: null })
