import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { UnknownAccount } from '../plugins/errors.ts'
import { Balance, Id, OpeningBalance, Owner, Problem } from '../schemas.ts'

const Account = Type.Object({ id: Id, owner: Type.String(), balance: Balance })

/** PostgreSQL's integer. Prisma rejects a larger number, which is no account either. */
const largestId = 2_147_483_647

/** Prisma gives a bigint; the table keeps balances small enough for a number. */
const toAccount = ({ id, owner, balance }: { id: number, owner: string, balance: bigint }): Static<typeof Account> =>
  ({ id, owner, balance: Number(balance) })

const accounts: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/accounts', {
    schema: {
      body: Type.Object({ owner: Owner, balance: OpeningBalance }, { additionalProperties: false }),
      response: { 201: Account, '4xx': Problem }
    }
  }, async (request, reply) => {
    const { owner, balance } = request.body
    return reply.code(201).send(toAccount(await app.prisma.account.create({ data: { owner, balance } })))
  })

  // As many digits as every id has: anything else is no account, and so a 404 as well.
  app.get('/accounts/:id(^[0-9]{1,10}$)', {
    config: { db: { readOnly: true } },
    schema: {
      params: Type.Object({ id: Type.String() }),
      response: { 200: Account, '4xx': Problem }
    }
  }, async (request) => {
    const id = Number(request.params.id)
    const account = id > largestId ? null : await app.prisma.account.findUnique({ where: { id } })
    if (account === null) throw new UnknownAccount()
    return toAccount(account)
  })
}

export default accounts
