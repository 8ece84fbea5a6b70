import type { Case, Context } from '../case.ts'

async function killAway (context: Context): Promise<void> {
  const request = context.post('/away')
  await context.handlerAway()
  await context.terminateBackends()
  await request
}

/** Each request meets a connection that was killed just before it. */
async function killIdle (context: Context): Promise<string[]> {
  const count = 100
  await context.post('/success')
  let failed = 0
  for (let i = 0; i < count; i++) {
    await context.terminateBackends()
    const { status } = await context.post('/success')
    if (status !== 201) failed++
  }
  return [`${failed} of ${count} requests failed`]
}

/** The server, or a connection to it, dies. */
export const servers: Case[] = [
  { name: 'backend killed inside a transaction, handler away', run: killAway },
  { name: 'backend killed inside a transaction, \'error\' listeners added', setup: { listeners: true }, run: killAway },
  { name: 'backend killed while idle, before each of 100 requests', run: killIdle },
  { name: 'backend killed while idle, \'error\' listeners added', setup: { listeners: true }, run: killIdle },
  {
    name: 'server restarted between requests',
    setup: { listeners: true },
    ownServer: true,
    async run (context) {
      await Promise.all(Array.from({ length: 5 }, () => context.post('/success')))
      await context.postgres.restart()
      const after = await Promise.all(Array.from({ length: 5 }, () => context.post('/success')))
      return [`${after.filter(({ status }) => status !== 201).length} of 5 requests after it failed`]
    }
  }
]
