import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { SameAccount, UnknownAccount } from '../plugins/errors.ts'
import { Amount, Id, Problem } from '../schemas.ts'

/**
 * One statement, so one round trip before COMMIT. Both rows are locked in the order of their ids before either
 * changes: two transfers in opposite directions wait for each other and never deadlock. An unknown account leaves
 * nothing to change, and a balance that does not suffice is refused by the table's CHECK.
 */
const transfer = `
  with locked as (
    select id from accounts where id in ($1::bigint, $2::bigint) order by id for no key update
  ), moved as (
    update accounts
       set balance = balance + case when accounts.id = $1::bigint then -$3::bigint else $3::bigint end
      from locked
     where accounts.id = locked.id and (select count(*) from locked) = 2
    returning accounts.id
  )
  insert into transfers (sender, receiver, amount)
  select $1::bigint, $2::bigint, $3::bigint from moved having count(*) = 2
  returning id`

const transfers: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/transfers', {
    schema: {
      body: Type.Object({ from: Id, to: Id, amount: Amount }, { additionalProperties: false }),
      response: { 201: Type.Object({ id: Id }), '4xx': Problem }
    }
  }, async (request, reply) => {
    const { from, to, amount } = request.body
    if (from === to) throw new SameAccount()
    const { rows } = await request.db.query(transfer, [from, to, amount])
    if (rows.length === 0) throw new UnknownAccount()
    return reply.code(201).send({ id: rows[0].id })
  })
}

export default transfers
