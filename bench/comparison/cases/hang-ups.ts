import { waitFor } from '../../../harness/wait-for.ts'
import type { Case, Context } from '../case.ts'

/** How long the server goes on with a statement that nobody waits for. */
async function afterlife (context: Context, limit = 2000): Promise<string> {
  const start = performance.now()
  const stopped = () => context.backends().then((all) => all.every(({ state }) => state !== 'active'))
  return await waitFor(stopped, { timeout: limit }).then(
    () => `statement stopped after ${Math.round(performance.now() - start)} ms`,
    () => `statement still runs after ${limit} ms`)
}

const away = (name: string, method: string, body?: object): Case => ({
  name,
  async run (context) {
    await context.leave({ method, path: '/slow', body }, context.running('SELECT pg_sleep'))
    return [await afterlife(context)]
  }
})

/** The client goes away. */
export const hangUps: Case[] = [
  away('hang-up during a GET', 'GET'),
  away('hang-up during a POST with a body', 'POST', { amount: 1 }),
  {
    name: 'hang-up while waiting for a connection',
    setup: { max: 1, acquireTimeout: 3000 },
    async run (context) {
      const holder = context.get('/slow?seconds=2')
      await context.running('SELECT pg_sleep')
      const waits = waitFor(async () => (await context.app.use())!.waiting > 0, { message: 'a request waits' })
      const { tag } = await context.leave({ method: 'POST', path: '/success', body: {} }, waits)
      await holder
      await context.sleep(200)
      const [row] = await context.sql('SELECT count(*)::int AS n FROM entries WHERE tag = $1', [tag])
      return row.n > 0 ? ['its statements ran all the same'] : []
    }
  },
  {
    name: 'hang-up in the middle of a stream',
    async run (context) { await context.leave({ path: '/slow-stream' }, { bytes: 3000 }) }
  },
  {
    name: 'hang-up in the middle of streamed rows',
    async run (context) { await context.leave({ path: '/rows' }, { bytes: 100_000 }, { writes: false }) }
  }
]
