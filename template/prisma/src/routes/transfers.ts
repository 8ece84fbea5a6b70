import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { SameAccount, UnknownAccount } from '../plugins/errors.ts'
import { Amount, Id, Problem } from '../schemas.ts'

const transfers: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/transfers', {
    schema: {
      body: Type.Object({ from: Id, to: Id, amount: Amount }, { additionalProperties: false }),
      response: { 201: Type.Object({ id: Id }), '4xx': Problem }
    }
  }, async (request, reply) => {
    const { from, to, amount } = request.body
    if (from === to) throw new SameAccount()
    const { account, transfer } = app.prisma
    // In the order of their ids: two transfers in opposite directions wait for each other and never deadlock.
    // An id that is too large for the column is an unknown account, not an error of the database.
    const locked = await app.prisma.$queryRaw<{ id: number }[]>`
      select id from accounts where id in (${from}::bigint, ${to}::bigint) order by id for no key update`
    if (locked.length < 2) throw new UnknownAccount()
    // One round trip. A balance that does not suffice is refused by the table's CHECK, and the request rolls back.
    const [, , { id }] = await Promise.all([
      account.update({ where: { id: from }, data: { balance: { decrement: amount } } }),
      account.update({ where: { id: to }, data: { balance: { increment: amount } } }),
      transfer.create({ data: { senderId: from, receiverId: to, amount } })
    ])
    return reply.code(201).send({ id })
  })
}

export default transfers
