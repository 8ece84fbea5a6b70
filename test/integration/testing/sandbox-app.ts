import Fastify, { type FastifyInstance } from 'fastify'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres, type TestPostgres } from '../../../harness/postgres.ts'
import { openSandbox, type Sandbox } from '../../../lib/testing/index.ts'
import type { RouteOptions } from '../../../types/options.ts'

/** As much of a tap test as is needed here. */
export interface TeardownTest {
  teardown (callback: () => unknown): unknown
}

export interface Answer {
  status: number
  body: any
}

export interface SandboxApp {
  app: FastifyInstance
  sandbox: Sandbox
  /** The lines that the app has logged. */
  logged: string[]
  /** Runs statements one after the other in a request of their own, and answers with the rows of the last one. */
  run (texts: string | string[], path?: string): Promise<Answer>
  /** The names of all things, as the app sees them. */
  inside (): Promise<string[]>
}

export interface SandboxDatabase {
  postgres: TestPostgres
  /** Registers the plugin with these options, but opens no sandbox. */
  openApp (t: TeardownTest, options?: PgScopeOptions): Promise<Omit<SandboxApp, 'sandbox'>>
  open (t: TeardownTest, options?: PgScopeOptions): Promise<SandboxApp>
  /** The names of all things, as others see them. */
  outside (): Promise<string[]>
}

export const named = (name: string): string => `INSERT INTO things VALUES ('${name}')`
const names = 'SELECT name FROM things ORDER BY name'

const routes: Record<string, RouteOptions> = {
  '/run': {},
  '/read': { readOnly: true },
  '/serializable': { isolation: 'serializable' },
  '/auto': { mode: 'autocommit' },
  '/auto-read': { mode: 'autocommit', readOnly: true },
  '/tenant': { settings: { 'app.tenant': 'seven' }, role: 'visitor', statementTimeout: 5000 },
  '/auto-tenant': { mode: 'autocommit', settings: { 'app.tenant': 'eight' }, role: 'visitor', statementTimeout: 6000 }
}

export async function sandboxDatabase (t: TeardownTest): Promise<SandboxDatabase> {
  const postgres = await startTestPostgres(t)
  await postgres.query(`
    CREATE TABLE owners (name text PRIMARY KEY);
    CREATE TABLE things (
      name text PRIMARY KEY,
      owner text REFERENCES owners DEFERRABLE INITIALLY DEFERRED,
      rank int UNIQUE DEFERRABLE INITIALLY IMMEDIATE
    );
    CREATE ROLE visitor;
    GRANT ALL ON owners, things TO visitor;
    CREATE FUNCTION become_tenant() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', 'nine', true) $$
  `)
  const namesOf = (rows: { name: string }[]): string[] => rows.map(({ name }) => name)
  const openApp: SandboxDatabase['openApp'] = async (t, options = {}) => {
    const logged: string[] = []
    const stream = { write: (line: string) => { logged.push(line) } }
    const app = Fastify({ logger: { level: 'warn', stream } })
    t.teardown(() => app.close())
    await app.register(pgScope, { connectionString: postgres.connectionString, exposeErrors: true, ...options })
    for (const [path, db] of Object.entries(routes)) {
      app.post<{ Body: string[] }>(path, { config: { db } }, async (request) => {
        let rows: unknown[] = []
        for (const text of request.body) ({ rows } = await request.db.query(text))
        return rows ?? []
      })
    }
    return {
      app,
      logged,
      run: async (texts, url = '/run') => {
        const response = await app.inject({ method: 'POST', url, payload: [texts].flat() })
        return { status: response.statusCode, body: response.json() }
      },
      inside: async () => namesOf((await app.db.query(names)).rows)
    }
  }
  return {
    postgres,
    openApp,
    open: async (t, options) => {
      const opened = await openApp(t, options)
      return { ...opened, sandbox: await openSandbox(opened.app) }
    },
    outside: async () => namesOf((await postgres.query(names)).rows)
  }
}
