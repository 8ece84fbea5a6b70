import Fastify from 'fastify'
import { createTRPCClient, httpBatchLink, httpBatchStreamLink } from '@trpc/client'
import { initTRPC } from '@trpc/server'
import { type CreateFastifyContextOptions, fastifyTRPCPlugin } from '@trpc/server/adapters/fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text PRIMARY KEY)')
t.beforeEach(async () => { await postgres.query('TRUNCATE note') })
const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)

const trpc = initTRPC.context<{ db: Session }>().create()

/** As docs/graphql.md shows it. */
const isolated = trpc.procedure.use(({ ctx, next }) => ctx.db.transaction(async () => {
  const result = await next()
  if (!result.ok) throw result.error
  return result
}))

const isText = (value: unknown): string => value as string

const routerOf = (procedure: typeof trpc.procedure) => trpc.router({
  add: procedure.input(isText).mutation(async ({ ctx, input }) => {
    await ctx.db.query('INSERT INTO note VALUES ($1)', [input])
    return input
  }),
  count: procedure.query(async ({ ctx }) => (await ctx.db.query('SELECT count(*)::int AS n FROM note')).rows[0].n)
})

async function start (t: Test, procedure: typeof trpc.procedure) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const router = routerOf(procedure)
  await app.register(fastifyTRPCPlugin, {
    prefix: '/trpc',
    trpcOptions: { router, createContext: ({ req }: CreateFastifyContextOptions) => ({ db: req.db }) }
  })
  const url = `${await app.listen({ port: 0, host: '127.0.0.1' })}/trpc`
  const client = (link: typeof httpBatchLink | typeof httpBatchStreamLink) =>
    createTRPCClient<typeof router>({ links: [link({ url }) as never] })
  return { app, batch: client(httpBatchLink), streamed: client(httpBatchStreamLink) }
}

const outcomes = async (calls: Promise<unknown>[]): Promise<string[]> =>
  (await Promise.allSettled(calls)).map((result) => result.status === 'fulfilled' ? 'ok' : (result.reason as Error).message)

for (const link of ['batch', 'streamed'] as const) {
  t.test(`tRPC, ${link}: procedures of a batch share the transaction of its request`, async (t) => {
    const { app, [link]: client } = await start(t, trpc.procedure)
    t.same(await outcomes([client.add.mutate('a'), client.add.mutate('b')]), ['ok', 'ok'])
    t.same(await saved(), ['a', 'b'])
    t.equal(await client.count.query(), 2)
    await waitFor(() => app.db.stats().inUse === 0)
  })

  t.test(`tRPC, ${link}: with transaction(fn) for each procedure, one that fails is undone alone`, async (t) => {
    const { app, [link]: client } = await start(t, isolated as never)
    const results = await outcomes([client.add.mutate('a'), client.add.mutate('a'), client.add.mutate('b')])
    t.match(results, ['ok', /duplicate key/, 'ok'])
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), ['a', 'b'])
  })

  t.test(`tRPC, ${link}: without it, a procedure that fails lets nothing be saved`, async (t) => {
    const { app, [link]: client } = await start(t, trpc.procedure)
    const results = await outcomes([client.add.mutate('a'), client.add.mutate('a'), client.add.mutate('b')])
    t.ok(results.some((result) => result !== 'ok'))
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), [])
  })
}
