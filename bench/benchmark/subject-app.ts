import Fastify, { type FastifyInstance } from 'fastify'
import { type NodeSubjectName, type Setup, nodeSubjects } from './subject.ts'

/** The app of one subject, listening. */
export async function listen (name: NodeSubjectName, setup: Setup): Promise<FastifyInstance> {
  const app = Fastify()
  const { default: declare } = await nodeSubjects[name]()
  await declare(app, setup)
  app.get('/plain', async () => ({ hello: 'world' }))
  for (let route = 0; route < setup.moreRoutes; route++) app.get(`/more/${route}`, async () => ({ route }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}
