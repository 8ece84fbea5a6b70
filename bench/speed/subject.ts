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

/** Each is loaded in its own process alone. */
export const subjects = {
  fastify: { title: 'Fastify alone', load: () => import('./subjects/fastify.ts') },
  'by-hand': { title: 'pg by hand', load: () => import('./subjects/by-hand.ts') },
  'fastify-postgres': { title: '@fastify/postgres', load: () => import('./subjects/fastify-postgres.ts') },
  'postgres-js': { title: 'postgres.js', load: () => import('./subjects/postgres-js.ts') },
  'pg-scope': { title: 'fastify-pg-scope', load: () => import('./subjects/pg-scope.ts') }
} satisfies Record<string, { title: string, load: () => Promise<{ default: Declare }> }>

export type NodeSubjectName = keyof typeof subjects
export type SubjectName = NodeSubjectName
export const subjectNames = Object.keys(subjects) as SubjectName[]
