import type { FastifyInstance } from 'fastify'
import type { PgScopeOptions } from '../../lib/index.ts'
import type { PgProxy } from '../pg-proxy.ts'
import type { TestPgBouncer } from '../pgbouncer.ts'
import type { Load } from './load.ts'
import type { Server } from './server.ts'

/** What can break. */
export interface Scene {
  readonly server: Server
  /** Null on a direct connection. */
  readonly pgBouncer: TestPgBouncer | null
  /** The network, where the event asks for one. */
  readonly proxy: PgProxy | null
}

/** What an event works on. */
export interface Day extends Scene {
  readonly load: Load
  readonly app: FastifyInstance
  /** Where the app connects to. */
  readonly connectionString: string
}

interface Description {
  name: string
  /** What it stands for, and what to set, for the page. */
  meaning: string
  where: 'everywhere' | 'behind PgBouncer'
  /** Whether requests may fail. Where none may, PgBouncer or the plugin hides the event. */
  cost: 'some requests' | 'no request'
  /** The app's options for this day, besides those of every day. */
  options?: PgScopeOptions
  /** PgBouncer's settings, besides those of docs/pgbouncer.ini. */
  settings?: Record<string, string | number>
  /** A network behind the app, or in front of the server: on a direct connection that is the same. */
  network?: 'behind the app' | 'in front of the server'
}

/** It asks nothing of the load and the app, so it can also happen at any moment of `npm run chaos`. */
export interface SuddenEvent extends Description {
  isSudden: true
  /** Resolves when the server is back. */
  run (scene: Scene): Promise<void>
}

export type BadDay = SuddenEvent | Description & {
  isSudden?: undefined
  /** Resolves when the server is back. */
  run (day: Day): Promise<void>
}
