import Fastify from 'fastify'
import pgScope, { type Engine, type Session } from '../../lib/index.ts'
import { typeOf } from './expect.ts'

// A second engine: its user declares the name, as for any decorator of Fastify.
declare module 'fastify' {
  interface FastifyInstance { reporting: FastifyInstance['db'] }
  interface FastifyRequest { reporting: FastifyRequest['db'] }
  interface FastifyContextConfig { reporting?: FastifyContextConfig['db'] }
}

const app = Fastify()
await app.register(pgScope, { connectionString: process.env.DATABASE_URL })
await app.register(pgScope, { connectionString: process.env.REPORTING_URL, decorator: 'reporting', readOnly: true })

typeOf(app.reporting).is<Engine>()
app.get('/report', { config: { reporting: { statementTimeout: 60_000 } } }, async request => {
  typeOf(request.reporting).is<Session>()
  typeOf(request.db).is<Session>()
})
// @ts-expect-error checked as config.db is
app.get('/a', { config: { reporting: { statementTimeout: 'long' } } }, async () => {})
// @ts-expect-error a name that nobody declared
console.log(app.archive)
