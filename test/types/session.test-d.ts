import { Readable } from 'node:stream'
import type { Notification, QueryArrayResult, QueryResult } from 'pg'
import Fastify from 'fastify'
import type { OwnedSession, Pooler, RowStream, Savepoint, Session, SessionState, StatementConfig, StatementError, Stats } from '../../lib/index.ts'
import { typeOf } from './expect.ts'

interface Account { id: number, owner: string }

const { db } = Fastify()
const session = db.session()

// Statements: rows are any until they are named
const loose = await db.query('select 1 as one')
typeOf(loose).is<QueryResult<any>>()
const typed = await session.query<Account>('select id, owner from accounts where id = $1', [1])
typeOf(typed).is<QueryResult<Account>>()
typeOf(typed.rows).is<Account[]>()
const first = typed.rows[0]
typeOf(first).is<Account | undefined>()
const object = await session.query<Account>({ text: 'select id, owner from accounts', values: [], name: 'all' })
typeOf(object).is<QueryResult<Account>>()
const array = await session.query({ text: 'select 1', rowMode: 'array' })
typeOf(array).is<QueryArrayResult<any[]>>()
const tuple = await session.query<[number, string]>({ text: 'select id, owner from accounts', rowMode: 'array' })
typeOf(tuple.rows).is<Array<[number, string]>>()
const whole: StatementConfig = { text: 'select 1' }
const either = await session.query(whole)
typeOf(either).is<QueryResult<any> | QueryArrayResult<any>>()
await session.query('select $1::int', [1] as const)
const failed = await session.query('select no_such_column').then(() => null, (error: StatementError) => error)
typeOf(failed?.statement).is<string | undefined>()
typeOf(failed?.position).is<string | undefined>()
await session.query({ text: 'select 1', signal: AbortSignal.timeout(1000) })
// @ts-expect-error a signal, not its controller
await session.query({ text: 'select 1', signal: new AbortController() })
// @ts-expect-error rows are arrays, and Account is not one
await session.query<Account>({ text: 'select id, owner from accounts', rowMode: 'array' })
// @ts-expect-error not a text
await session.query(1)
// @ts-expect-error values are an array
await session.query('select $1', 1)
// @ts-expect-error no such row mode
await session.query({ text: 'select 1', rowMode: 'tuple' })
// @ts-expect-error no callbacks
await session.query('select 1', () => {})
// @ts-expect-error a text is needed
await session.query({ values: [1] })
// @ts-expect-error a column that the row type does not have
typed.rows.map(row => row.balance)

// A scope gives back what its function does
const count = await db.scope(async inner => {
  typeOf(inner).is<Session>()
  return (await inner.query<Account>('select id, owner from accounts')).rows.length
})
typeOf(count).is<number>()
const immediate = await db.scope(() => 'done' as const, { readOnly: true, role: 'reader', signal: AbortSignal.timeout(1000) })
typeOf(immediate).is<'done'>()
await db.scope(async (inner) => typeOf(inner.attempt).is<number>(), { retry: { attempts: 3 } })
typeOf(db.stats().counters.retried).is<number>()
// @ts-expect-error a scope has no request to ask
await db.scope(async () => {}, { settings: request => ({}) })
// @ts-expect-error nor a reply to wait for
await db.scope(async () => {}, { commitOn: 'response' })

// So does a transaction
const account = await session.transaction(async inner => {
  typeOf(inner).is<Session>()
  return (await inner.query<Account>('select id, owner from accounts')).rows[0]
})
typeOf(account).is<Account | undefined>()
const nothing = await session.transaction(async () => {})
typeOf(nothing).is<void>()

typeOf(db.current()).is<Session>()

// A savepoint without a function
const savepoint = await session.savepoint()
typeOf(savepoint).is<Savepoint>()
typeOf(savepoint.name).is<string>()
await savepoint.release()
async function block (): Promise<void> {
  await using inner = await session.savepoint('inner')
  await inner.rollback()
}
await block()
// @ts-expect-error a name is a string
await session.savepoint(1)

// A stream is a Readable that knows its rows
const stream = session.stream<Account>('select id, owner from accounts', [], { batchSize: 100 })
typeOf(stream).is<RowStream<Account>>()
const readable: Readable = stream
readable.pipe(process.stdout)
for await (const row of stream) typeOf(row).is<Account>()
// @ts-expect-error a number of rows
session.stream('select 1', [], { batchSize: '100' })
typeOf(session.stream<Account>({ text: 'select id, owner from accounts where id = $1', values: [1] }, { batchSize: 100 })).is<RowStream<Account>>()
typeOf(session.stream<[number, string]>({ text: 'select id, owner from accounts', rowMode: 'array' })).is<RowStream<[number, string]>>()
typeOf(session.stream<Account>({ text: 'select id, owner from accounts', signal: AbortSignal.timeout(1000) })).is<RowStream<Account>>()
// @ts-expect-error it has no such field
session.stream({ text: 'select 1', rows: 10 })
Fastify().get('/ledger', async (request, reply) => reply.send(request.db.stream('select 1')))

// A session of one's own
typeOf(session).is<OwnedSession>()
async function owned (): Promise<void> {
  await using mine = db.session({ isolation: 'serializable', lockTimeout: 100 })
  await mine.commit()
  await mine.rollback()
}
await owned()
await session.close()
const { state, signal } = session
typeOf(state).is<SessionState>()
typeOf(signal).is<AbortSignal>()
session.setRollbackOnly('because')
session.afterCommit(() => {})
session.afterRollback(async () => {})
// @ts-expect-error the state is the session's to change
session.state = 'idle'

// A raw client, without what would end it
const heard = await db.lease(async client => {
  await client.query('listen news')
  return await new Promise<Notification>(resolve => { client.once('notification', resolve) })
})
typeOf(heard).is<Notification>()
// @ts-expect-error the lease ends it
await db.lease(client => client.end())

// What the engine tells
const stats = db.stats()
typeOf(stats).is<Stats>()
typeOf(stats.counters.committed).is<number>()
typeOf(stats.serverVersion).is<string | undefined>()
typeOf(await db.reset()).is<void>()
const milliseconds = await db.ping(500)
typeOf(milliseconds).is<number>()
const { pooler } = db
typeOf(pooler).is<Pooler>()
if (pooler.kind === 'pgbouncer') typeOf(pooler.mode).is<'transaction' | 'session'>()
// @ts-expect-error what was found cannot be set
db.pooler = { kind: 'none' }
await db.close()
