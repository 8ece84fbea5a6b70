import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify'
import { byHand } from './subjects/by-hand.ts'
import { fastifyPostgres } from './subjects/fastify-postgres.ts'
import { pgScope } from './subjects/pg-scope.ts'

/** What a handler works with, the same in all subjects. */
export interface Work {
  query (text: string, values?: unknown[]): Promise<{ rows: any[] }>
  /** Ends the transaction before the handler does, in the subject's own way. */
  commit (): Promise<unknown>
}

export type Handler = (work: Work, request: FastifyRequest, reply: FastifyReply) => unknown

export interface Use {
  open: number
  inUse: number
  waiting: number
}

/** One way to put PostgreSQL behind Fastify. */
export interface Subject {
  /** A route whose handler runs in a transaction. */
  route (method: 'GET' | 'POST', url: string, options: RouteShorthandOptions, handler: Handler): void
  /** A route that streams the rows of one statement. */
  rows (url: string, text: string): void
  use (): Use
}

/** What the app of one case is started with. */
export interface Setup {
  connectionString: string
  max: number
  /** Milliseconds that a request may wait for a connection. */
  acquireTimeout: number
  /** Milliseconds that close() may wait for work in flight, where the subject knows such a limit. */
  closeTimeout: number
  /** Listens to 'error' on the pool and on each client, although the subject's documentation does not ask for it. */
  listeners: boolean
}

export const subjects = {
  'fastify-pg-scope': pgScope,
  '@fastify/postgres': fastifyPostgres,
  'by hand': byHand
} satisfies Record<string, (app: FastifyInstance, setup: Setup) => Promise<Subject>>

export type SubjectName = keyof typeof subjects
