import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import Fastify from 'fastify'
import { drizzleOf } from '../../lib/drizzle/index.ts'
import { typeOf } from './expect.ts'

const accounts = pgTable('accounts', { id: integer().primaryKey(), owner: text().notNull() })
const schema = { accounts }

const { db } = Fastify()
const session = db.session()
const plain = drizzleOf(session)
typeOf(await plain.select().from(accounts)).is<Array<{ id: number, owner: string }>>()
const drizzle = drizzleOf(db, { schema, casing: 'snake_case', logger: true })
typeOf(drizzle).is<NodePgDatabase<typeof schema>>()
typeOf(await drizzleOf(() => session, { schema }).query.accounts.findFirst()).is<{ id: number, owner: string } | undefined>()
await drizzle.transaction(async (tx) => tx.query.accounts.findMany(), { isolationLevel: 'serializable' })
// @ts-expect-error neither a session nor an engine
drizzleOf({})
// @ts-expect-error not a casing
drizzleOf(session, { casing: 'upper' })
