import Fastify from 'fastify'
import pgScope, { isPgScopeError, type PgScopeOptions, type Session } from 'fastify-pg-scope'
import { startPostgres } from 'fastify-pg-scope/embedded'
import { idempotencyTable } from 'fastify-pg-scope/idempotency'
import { mercuriusTransactions } from 'fastify-pg-scope/graphql'
import { clientOf, poolOf } from 'fastify-pg-scope/pg'
import { openSandbox } from 'fastify-pg-scope/testing'

const options: PgScopeOptions = { connectionString: (await startPostgres()).connectionString, pool: { max: 3 } }
const app = Fastify()
await app.register(pgScope, options)
app.get('/notes', { config: { db: { readOnly: true } } }, async (request): Promise<{ id: number }[]> => {
  const session: Session = request.db
  const { rows } = await session.query<{ id: number }>('select id from notes')
  await clientOf(session).query('select 1')
  return rows
})
export const problem = (error: unknown): string | null => isPgScopeError(error) ? error.code : null
export const pool = poolOf(app.db)
export const table: string = String(idempotencyTable)
export const transactions = mercuriusTransactions
export const sandbox = await openSandbox(app)
