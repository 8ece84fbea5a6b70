import t from 'tap'
import { runRepeatedRequests } from '../../../harness/repeated-requests/run.ts'

// The short form of `npm run repeated-requests`.
t.test('a client that repeats its requests until it has an answer gets one answer each, and each is done once', async (t) => {
  const run = await runRepeatedRequests(t, { duration: 0, clients: 6, seed: 1 })
  const { failures, transfers, sent, replayed, faults } = run
  t.comment(`${transfers} transfers, ${sent} requests, ${replayed} answers of earlier requests; killed: ${JSON.stringify(faults)}`)
  t.same(failures, [])
  t.same(faults, { app: 1, pooler: 1, server: 1, backends: 1 })
})
