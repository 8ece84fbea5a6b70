import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { hangUp, type HangUpTime, type HttpRequest, openRequest } from '../../harness/http-client.ts'
import type { TestPostgres } from '../../harness/postgres.ts'
import { waitFor } from '../../harness/wait-for.ts'
import type { AppProcess } from './app-process.ts'
import type { Setup } from './subject.ts'

/** How one request ended, as its client saw it. */
export interface Ending {
  tag: string
  /** 0: nothing was read. */
  status: number
  complete: boolean
  milliseconds: number
  retryAfter: string | undefined
  /** Its handler threw: an error, whatever status it was given. */
  threw: boolean
  /** It changes the database. */
  writes: boolean
}

export interface Case {
  /** What happens, in a few words: the row's name. */
  name: string
  setup?: Partial<Omit<Setup, 'connectionString'>>
  /** The case stops its server, so it needs one of its own. */
  ownServer?: true
  /** Makes it happen. Returns what its measurement found besides the endings. */
  run (context: Context): Promise<string[] | void>
}

/** What a client that is never answered waits. Milliseconds. */
const patience = 4000

/** What a case works with: one app, and the database behind it. */
export class Context {
  readonly app: AppProcess
  readonly postgres: Pick<TestPostgres, 'restart'>
  readonly endings: Ending[] = []
  readonly #connectionString: string
  #tags = 0

  constructor (app: AppProcess, postgres: Pick<TestPostgres, 'restart'>, connectionString: string) {
    this.app = app
    this.postgres = postgres
    this.#connectionString = connectionString
  }

  /** One statement on a connection of the observer's own. */
  async sql (text: string, values?: unknown[]): Promise<any[]> {
    const client = new pg.Client({ connectionString: this.#connectionString, application_name: 'observer' })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(text, values)).rows
    } finally {
      await client.end()
    }
  }

  /** The app's own backends, by what they do. */
  async backends (): Promise<{ state: string, query: string }[]> {
    return await this.sql(`SELECT state, query FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'observer'`)
  }

  /** Until a handler is away from its open transaction. */
  async handlerAway (): Promise<void> {
    await waitFor(async () => (await this.backends()).some(({ state }) => state === 'idle in transaction'), { message: 'a handler is away' })
  }

  /** How many there were. */
  async terminateBackends (): Promise<number> {
    const rows = await this.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'observer'`)
    return rows.length
  }

  /** Until a statement of the app runs that begins like this. */
  async running (start: string): Promise<void> {
    await waitFor(async () => (await this.backends()).some(({ state, query }) => state === 'active' && query.startsWith(start)), { message: `${start} runs` })
  }

  sleep<T = void> (milliseconds: number, value?: T): Promise<T> {
    return sleep(milliseconds, value) as Promise<T>
  }

  post (path: string, what: { threw?: boolean } = {}): Promise<Ending> {
    return this.#send({ method: 'POST', path }, what)
  }

  get (path: string, what: { writes?: boolean } = {}): Promise<Ending> {
    return this.#send({ path }, what)
  }

  /** Hangs up before the answer is there. */
  async leave (request: HttpRequest, after: HangUpTime, { writes = true } = {}): Promise<Ending> {
    const { tag, path } = this.#tagged(request.path!)
    const { status, complete } = await hangUp(this.app.port, { ...request, path }, { after })
    return this.#ended({ tag, status, complete, milliseconds: 0, retryAfter: undefined, threw: false, writes })
  }

  async #send (
    request: HttpRequest, { threw = false, writes = true }: { threw?: boolean, writes?: boolean }
  ): Promise<Ending> {
    const { tag, path } = this.#tagged(request.path!)
    const start = performance.now()
    const { socket, response } = openRequest(this.app.port, { ...request, path })
    const timer = setTimeout(() => socket.destroy(), patience)
    const { status, complete, headers } = await response
    clearTimeout(timer)
    socket.destroy()
    return this.#ended({ tag, status, complete, milliseconds: Math.round(performance.now() - start), retryAfter: headers['retry-after'], threw, writes })
  }

  #tagged (path: string): { tag: string, path: string } {
    const tag = `r${++this.#tags}`
    return { tag, path: `${path}${path.includes('?') ? '&' : '?'}tag=${tag}` }
  }

  #ended (ending: Ending): Ending {
    this.endings.push(ending)
    return ending
  }
}
