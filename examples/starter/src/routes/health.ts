import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Stats } from 'fastify-pg-scope'
import { Type } from 'typebox'
import { Problem } from '../schemas.ts'

const Pool = Type.Unsafe<Stats>(Type.Object({
  strategy: Type.String(),
  max: Type.Integer(),
  open: Type.Integer(),
  idle: Type.Integer(),
  inUse: Type.Integer(),
  waiting: Type.Integer(),
  oldestTransaction: Type.Number(),
  counters: Type.Record(Type.String(), Type.Integer())
}))

const health: FastifyPluginAsyncTypebox = async (app) => {
  app.get('/health', {
    logLevel: 'warn',
    schema: {
      response: { 200: Type.Object({ status: Type.Literal('ok'), ping: Type.Number(), pool: Pool }), 503: Problem }
    }
  }, async () => {
    // Without an answer it throws, and what it throws is a 503.
    const ping = await app.db.ping()
    return { status: 'ok' as const, ping, pool: app.db.stats() }
  })
}

export default health
