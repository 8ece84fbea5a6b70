import type { FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import type { startShop } from './shop.ts'

/**
 * A request whose work adds a person, and succeeds: it is stored. One that does the same and throws at its end:
 * nothing is stored.
 */
export async function commitAndRollBack (
  t: Test, { app, people }: Awaited<ReturnType<typeof startShop>>,
  work: (name: string, request: FastifyRequest) => Promise<unknown>
): Promise<void> {
  app.post('/people/:name', async (request, reply) => {
    const { name } = request.params as { name: string }
    await work(name, request)
    if (name === 'Nobody') throw new Error('not this one')
    return reply.code(201).send({ name })
  })
  for (const [name, statusCode] of [['Alan', 201], ['Nobody', 500]] as const) {
    const response = await app.inject({ method: 'POST', url: `/people/${name}` })
    t.equal(response.statusCode, statusCode, response.body)
  }
  t.same(await people(), ['Ada', 'Grace', 'Alan'])
}
