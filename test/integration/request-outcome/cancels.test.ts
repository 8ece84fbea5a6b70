import t from 'tap'
import { cancelAmongOthers } from '../../../harness/cancels.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { strategies } from '../../../harness/variant.ts'

const postgres = await startTestPostgres(t)

// The short form of `npm run cancels`.
for (const strategy of strategies) {
  // With the null strategy each statement opens a connection.
  const count = strategy === 'queue' ? 200 : 100
  t.test(`${count} cancels stop their own statements, and no other, with the ${strategy} strategy`, async (t) => {
    const { connectionString } = postgres
    const { canceled, hit } = await cancelAmongOthers({ connectionString, strategy, count })
    t.comment(`${canceled} cancel requests`)
    t.same(hit, [])
    t.ok(canceled > 3, 'cancels were sent')
  })
}
