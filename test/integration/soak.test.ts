import t from 'tap'
import { soak } from '../../harness/soak/soak.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { strategy } from '../../harness/variant.ts'

// The short form of `npm run soak`. The heap still settles a little after so few requests, by up to 300 bytes for
// each, so the limit is looser than there; whatever holds on to a request or to its session costs more than 1,000.
t.test('requests that end in every way leave no memory, no socket and no transaction behind', { timeout: 400_000 }, async t => {
  const postgres = await startTestPostgres(t)
  const { figures, failures } = await soak({
    connectionString: postgres.connectionString,
    strategy,
    requests: 3000,
    warmUp: 1500,
    samples: 6,
    limit: 500
  })
  for (const [name, value] of figures) t.comment(`${name}: ${value}`)
  t.strictSame(failures, [])
})
