// Beside plugins that declare types of the same names within Fastify's module
import '@fastify/cookie'
import '@fastify/session'
import Fastify from 'fastify'
import type { Engine, Session } from '../../lib/index.ts'
import { typeOf } from './expect.ts'

const app = Fastify()

typeOf(app.db).is<Engine>()
app.get('/', { config: { db: { retry: 3 } } }, async (request) => {
  typeOf(request.db).is<Session>()
  return request.session.sessionId
})
