import { startTestPostgres, type TestPostgres } from '../../harness/postgres.ts'
import { AppProcess } from './app-process.ts'
import { type Case, Context } from './case.ts'
import type { Finding } from './rule.ts'
import { schema } from './schema.ts'
import type { SubjectName } from './subject.ts'

/** How long connections may take to come back. Milliseconds. */
const patience = 2000

/** One case with one subject: a database and a process of its own, and what was found. */
export async function runTrial (
  postgres: TestPostgres, name: SubjectName, { setup, ownServer, run }: Case
): Promise<Finding> {
  const teardowns: (() => unknown)[] = []
  const own = ownServer ? await startTestPostgres({ teardown: (callback) => teardowns.push(callback) }) : postgres
  const connectionString = await own.createDatabase()
  await own.query(schema, undefined, connectionString)
  const app = await AppProcess.start(name, {
    connectionString, max: 5, acquireTimeout: 5000, closeTimeout: 1000, listeners: false, ...setup
  })
  try {
    const context = new Context(app, own, connectionString)
    const notes = await run(context) ?? []
    const rest = await settle(context)
    const rows = await context.sql('SELECT tag FROM entries')
    return { endings: context.endings, saved: new Set(rows.map(({ tag }) => tag)), ...rest, crash: app.crash, notes }
  } finally {
    await app.kill()
    for (const teardown of teardowns) await teardown()
  }
}

/** Waits for the connections to come back: in the app's own view, and in the server's. */
async function settle (context: Context): Promise<Pick<Finding, 'back' | 'inUse' | 'idleInTransaction' | 'running'>> {
  const start = performance.now()
  for (;;) {
    const use = await context.app.use()
    const backends = await context.backends()
    const idleInTransaction = backends.filter(({ state }) => state.startsWith('idle in transaction')).length
    const running = backends.filter(({ state }) => state === 'active').length
    const inUse = use?.inUse ?? 0
    const time = performance.now() - start
    const idle = inUse + idleInTransaction + running === 0
    if (idle || time > patience) return { back: idle ? Math.round(time) : null, inUse, idleInTransaction, running }
    await context.sleep(20)
  }
}
