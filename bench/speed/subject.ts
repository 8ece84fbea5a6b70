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

/** Declares the routes of all workloads (see workloads.ts) on an app, each as the subject's own documentation would have it. */
export type Declare = (app: FastifyInstance, setup: Setup) => Promise<void>

/** Those on Node. Each is loaded in its own process alone. */
export const nodeSubjects = {
  fastify: () => import('./subjects/fastify.ts'),
  'by-hand': () => import('./subjects/by-hand.ts'),
  'fastify-postgres': () => import('./subjects/fastify-postgres.ts'),
  'postgres-js': () => import('./subjects/postgres-js.ts'),
  kysely: () => import('./subjects/kysely.ts'),
  drizzle: () => import('./subjects/drizzle.ts'),
  'pg-scope': () => import('./subjects/pg-scope.ts')
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
  'pg-scope': 'fastify-pg-scope',
  fastapi: 'FastAPI + SQLAlchemy'
}
export const subjectNames = Object.keys(titles) as SubjectName[]
