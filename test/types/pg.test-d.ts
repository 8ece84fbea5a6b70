import Fastify from 'fastify'
import pg, { type Pool, type PoolClient } from 'pg'
import { clientOf, driverOf, type PgOptions, poolOf } from '../../lib/pg/index.ts'
import { typeOf } from './expect.ts'

const { db } = Fastify()
const session = db.session()

typeOf(clientOf(session)).is<PoolClient>()
typeOf(clientOf(db)).is<PoolClient>()
typeOf(clientOf(() => db.current(), { types: pg.types })).is<PoolClient>()
typeOf(poolOf(db)).is<Pool>()
typeOf(poolOf(db, { types: undefined } satisfies PgOptions)).is<Pool>()
typeOf(driverOf(db)).is<typeof pg>()
const { rows } = await clientOf(session).query<{ id: number }>('SELECT 1 AS id')
typeOf(rows).is<{ id: number }[]>()
// @ts-expect-error a pool belongs to an engine
poolOf(session)
// @ts-expect-error a driver belongs to an engine
driverOf(session)
// @ts-expect-error neither a session nor an engine
clientOf({})
// @ts-expect-error no such option
poolOf(db, { max: 5 })
