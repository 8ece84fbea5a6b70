import type { Case, Context } from '../case.ts'

async function closing (context: Context, path: string): Promise<string[]> {
  const limit = 5000
  const request = context.post(path)
  await context.handlerAway()
  const start = performance.now()
  const closed = await Promise.race([context.app.close().then(() => 'closed'), context.sleep(limit, 'open')])
  const time = ((performance.now() - start) / 1000).toFixed(1)
  await request
  return [closed === 'closed' ? `close() took ${time} s` : `close() still waits after ${limit / 1000} s`]
}

/** app.close() while a request is in flight. */
export const closes: Case[] = [
  { name: 'close with a request in flight', setup: { closeTimeout: 10_000 }, run: (context) => closing(context, '/away') },
  { name: 'close with a handler that never ends', run: (context) => closing(context, '/never') }
]
