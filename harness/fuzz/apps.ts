import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import pgScope, { type Session } from '../../lib/index.ts'
import { type Program, type SessionProgram } from './program.ts'
import { type Owner, SessionTarget, slowInsert } from './session-target.ts'
import { runSteps, type Trace } from './target.ts'

/** One session while its program runs. */
export interface Run {
  readonly owner: Owner
  readonly program: SessionProgram
  readonly trace: Trace
  /** Resolves when the session waits for its client to leave. */
  readonly arrived: Promise<void>
  arrive (): void
}

/** Fewer connections than sessions, so that some wait, and some are handed over. */
const connections = 2

/** The apps of one pool strategy: one engine for each protocol. */
export interface Apps {
  readonly app: FastifyInstance
  readonly port: number
  readonly http2Port: number
  /** Everything is over: no connection is held, and no session waits. */
  readonly isQuiet: boolean
  /** Makes a program known to the routes. @returns the path that runs it */
  add (run: Run): string
  remove (run: Run): void
  close (): Promise<void>
}

export async function openApps (connectionString: string, strategy: Program['strategy']): Promise<Apps> {
  const runs = new Map<string, Run>()
  const keyOf = ({ owner }: Run): string => `${owner.program}-${owner.session}`
  const open = async (http2: boolean): Promise<[FastifyInstance, number]> => {
    // The types of an app depend on its protocol; nothing here does.
    const app = Fastify({ ...(http2 && { http2 }) } as {}) as unknown as FastifyInstance
    await app.register(pgScope, {
      connectionString, pool: { strategy, max: connections, acquireTimeout: 60_000 }, retry: false, closeTimeout: 3000
    })
    const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
      const run = runs.get((request.params as { key: string }).key)!
      await runAttempt(request.db, run)
      if (run.program.end === 'refuse') reply.code(422)
      return { ok: true }
    }
    for (const mode of ['transaction', 'autocommit'] as const) {
      app.post(`/${mode}/:key`, { config: { db: { mode } } }, handler)
    }
    app.post('/retry/:key', { config: { db: { retry } } }, handler)
    await app.listen({ port: 0, host: '127.0.0.1' })
    return [app, (app.server.address() as AddressInfo).port]
  }
  const [[app, port], [http2App, http2Port]] = await Promise.all([open(false), open(true)])
  return {
    app,
    port,
    http2Port,
    get isQuiet () {
      return [app, http2App].every(({ db }) => db.stats().inUse + db.stats().waiting === 0)
    },
    add (run) {
      runs.set(keyOf(run), run)
      return `/${run.program.retry ? 'retry' : run.program.mode}/${keyOf(run)}`
    },
    remove (run) { runs.delete(keyOf(run)) },
    async close () { await Promise.all([app.close(), http2App.close()]) }
  }
}

export const retry = { attempts: 2, minDelay: 1, maxDelay: 1 }

/** Runs the steps, and what comes before the end. */
export async function runAttempt (db: Session, { owner, program, trace, arrive }: Run): Promise<void> {
  owner.attempt = db.attempt
  trace.clear()
  await runSteps(new SessionTarget(db, owner), program.steps, trace)
  if (program.end === 'throw') throw new Error('thrown by the program')
  if (program.end === 'leave') {
    const left = new Promise((resolve) => db.signal.addEventListener('abort', resolve))
    arrive()
    await left
  } else if (program.end === 'leave in a statement') {
    const statement = slowInsert(db, owner, 0)
    let isRefused = false
    statement.catch(() => { isRefused = true })
    setImmediate(() => { if (!isRefused) arrive() })
    await statement
  }
}
