import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'

/** What the app of a subject is started with. */
export interface Setup {
  connectionString: string
  /** Connections of the pool. */
  max: number
  /** Behind a PgBouncer in transaction mode that does not follow prepared statements. */
  unprepared: boolean
  /** Routes that are registered beside those of the workloads. */
  moreRoutes: number
}

/**
 * Declares the routes of all workloads (see workloads.ts) on an app, each as the subject's own documentation would
 * have it.
 */
export type Declare = (app: FastifyInstance, setup: Setup) => Promise<void>

/** Names the checkout of an earlier build, for the subject `before`. The processes of the apps inherit it. */
const beforeVariable = 'PG_SCOPE_BENCH_BEFORE'

/** @param folder a checkout in which `npm run bench:build` has run */
export function useBefore (folder: string): void {
  process.env[beforeVariable] = resolve(folder)
}

/** The subject `pg-scope` of an earlier build: its routes and its library, on this build's Fastify. */
function before (): Promise<{ default: Declare }> {
  const folder = process.env[beforeVariable]
  if (folder === undefined) throw new Error('The subject "before" needs --before FOLDER.')
  // Earlier checkouts have the benchmark in bench/speed.
  const files = ['benchmark', 'speed'].map((name) => join(folder, `bench/dist/bench/${name}/subjects/pg-scope.js`))
  return import(pathToFileURL(files.find((file) => existsSync(file)) ?? files[0]!).href)
}

/** Those on Node. Each is loaded in its own process alone. */
export const nodeSubjects = {
  fastify: () => import('./subjects/fastify.ts'),
  'by-hand': () => import('./subjects/by-hand.ts'),
  'fastify-postgres': () => import('./subjects/fastify-postgres.ts'),
  'postgres-js': () => import('./subjects/postgres-js.ts'),
  kysely: () => import('./subjects/kysely.ts'),
  drizzle: () => import('./subjects/drizzle.ts'),
  'kysely-session': () => import('./subjects/kysely-session.ts'),
  'drizzle-session': () => import('./subjects/drizzle-session.ts'),
  'pg-scope': () => import('./subjects/pg-scope.ts'),
  'pg-scope-metrics': () => import('./subjects/pg-scope-metrics.ts'),
  'pg-scope-otel': () => import('./subjects/pg-scope-otel.ts'),
  'by-hand-otel': () => import('./subjects/by-hand-otel.ts'),
  before
} satisfies Record<string, () => Promise<{ default: Declare }>>

export type NodeSubjectName = keyof typeof nodeSubjects
export type SubjectName = NodeSubjectName | 'fastapi'

/** As tables name them, and in their order. */
export const titles: Record<SubjectName, string> = {
  fastify: 'Fastify alone',
  'by-hand': 'pg by hand',
  'fastify-postgres': '@fastify/postgres',
  'postgres-js': 'postgres.js',
  kysely: 'Kysely',
  drizzle: 'Drizzle',
  'kysely-session': 'Kysely on a session',
  'drizzle-session': 'Drizzle on a session',
  'pg-scope': 'fastify-pg-scope',
  'pg-scope-metrics': 'fastify-pg-scope with metrics',
  'pg-scope-otel': 'fastify-pg-scope with OpenTelemetry',
  'by-hand-otel': 'pg by hand with instrumentation-pg',
  before: 'fastify-pg-scope, earlier build',
  fastapi: 'FastAPI + SQLAlchemy'
}
export const subjectNames = Object.keys(titles) as SubjectName[]
