import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Engine, Session } from 'fastify-pg-scope'
import type { Handler } from './handlers.ts'

export interface WorkerOptions {
  /** Jobs that run side by side. Each holds a connection while it runs. */
  concurrency: number
  /** How long to wait before looking again where there was nothing to do. Milliseconds. */
  pollInterval: number
  /** How often a job is tried. */
  attempts: number
}

interface Job {
  id: string
  kind: string
  payload: unknown
  attempts: number
}

/**
 * The first job that is due and that nobody else is at. The lock lasts as long as the transaction, whatever ends it.
 */
const next = `
  select id, kind, payload, attempts from jobs
   where run_at <= now() and done_at is null and failed_at is null
   order by run_at, id limit 1
     for update skip locked`

/** A job may think for a while between two statements; a worker that is cut off is noticed by TCP. */
const patience = { idleInTransactionTimeout: 600_000 }

/** Runs jobs until it is stopped: several at a time, each in a transaction of its own. */
export class Worker {
  readonly #db: Engine
  readonly #handlers: Record<string, Handler>
  readonly #log: FastifyBaseLogger
  readonly #options: WorkerOptions
  readonly #stopping = new AbortController()
  #loops: Promise<void>[] = []

  constructor (db: Engine, handlers: Record<string, Handler>, log: FastifyBaseLogger, options: WorkerOptions) {
    this.#db = db
    this.#handlers = handlers
    this.#log = log
    this.#options = options
  }

  start (): void {
    this.#loops = Array.from({ length: this.#options.concurrency }, () => this.#loop())
  }

  /** Takes no more jobs, and resolves when those that run have come to their end. */
  async stop (): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#loops)
  }

  async #loop (): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      let found = false
      try {
        found = await this.#db.scope((session) => this.#work(session), patience)
      } catch (error) {
        // The database is away, say. Nothing of the job is saved, so that it is done again.
        this.#log.error({ err: error }, 'a job could not be brought to its end')
      }
      if (!found) await sleep(this.#options.pollInterval, undefined, { signal }).catch(() => {})
    }
  }

  /** True if there was something to do. */
  async #work (session: Session): Promise<boolean> {
    const { rows: [job] } = await session.query<Job>(next)
    if (job === undefined) return false
    const attempts = job.attempts + 1
    try {
      // A savepoint: what a handler has done before it failed is undone, and the failure can still be written down.
      await session.transaction((inner) => this.#handle(inner, job))
    } catch (error) {
      const last = attempts >= this.#options.attempts
      await session.query(`
        update jobs
           set attempts = $2, error = $3, failed_at = case when $4 then now() end, run_at = now() + make_interval(secs => 0.1 * 2 ^ $2::integer)
         where id = $1`, [job.id, attempts, String(error), last])
      this.#log.warn({ job: job.id, kind: job.kind, attempts, err: error }, last ? 'a job has failed for good' : 'a job has failed, and will be tried again')
      return true
    }
    await session.query('update jobs set attempts = $2, done_at = now() where id = $1', [job.id, attempts])
    session.afterCommit(() => this.#log.info({ job: job.id, kind: job.kind }, 'done'))
    return true
  }

  async #handle (session: Session, { kind, payload }: Job): Promise<void> {
    const handler = Object.hasOwn(this.#handlers, kind) ? this.#handlers[kind] : undefined
    if (handler === undefined) throw new Error(`there is no handler for jobs of kind "${kind}"`)
    await handler(session, payload)
  }
}
