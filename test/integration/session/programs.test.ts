import t from 'tap'
import { fuzz } from '../../../harness/fuzz/fuzz.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { byStrategy, strategies } from '../../../harness/variant.ts'

// The short form of `npm run fuzz`. A failure says which seed and path, with which it is run again.
t.test('whatever a session is made to do, the table and the answer are what a model of it says', { timeout: 300_000 }, async (t) => {
  const postgres = await startTestPostgres(t)
  const { failure, programs, sessions, rows } = await fuzz({
    connectionString: postgres.connectionString, programs: byStrategy({ queue: 1000, null: 200 }), seed: 1, strategies
  })
  t.comment(`${programs} programs, ${sessions} sessions, ${rows} rows`)
  t.equal(failure, null)
})
