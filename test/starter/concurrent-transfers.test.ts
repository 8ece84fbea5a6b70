import type { AddressInfo } from 'node:net'
import t from 'tap'
import { openAccount, openBank, readEntries } from './bank.ts'
import { waitFor } from '../../harness/wait-for.ts'

const accounts = 8
const opening = 1000
const clients = 20
const transfersEach = 10

t.test('whatever many clients do at once, the sum stays, and what was acknowledged is kept', async t => {
  const app = await openBank(t)
  const ids = await Promise.all(Array.from({ length: accounts }, (_, n) => openAccount(app, `Client ${n}`, opening)))
  await app.listen({ port: 0 })
  const { port } = app.server.address() as AddressInfo
  const acknowledged: number[] = []
  const seen = new Map<number, number>()
  let hungUp = 0

  await Promise.all(Array.from({ length: clients }, async () => {
    for (let n = 0; n < transfersEach; n++) {
      const unknown = Math.random() < 0.05
      const [from, to] = [pick(ids), unknown ? 999_999 : pick(ids)]
      // Every fourth one goes away somewhere between its request and the answer.
      const leaves = Math.random() < 0.25
      const signal = leaves ? AbortSignal.timeout(Math.floor(Math.random() * 15)) : null
      try {
        const response = await fetch(`http://127.0.0.1:${port}/transfers`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ from, to, amount: 1 + Math.floor(Math.random() * 900) }),
          signal
        })
        const body = await response.json() as { id: number }
        seen.set(response.status, (seen.get(response.status) ?? 0) + 1)
        if (response.status === 201) acknowledged.push(body.id)
      } catch (error) {
        if (!leaves) throw error
        hungUp++
      }
    }
  }))

  t.comment(`${hungUp} hung up; answers: ${JSON.stringify([...seen])}`)
  t.same([...seen.keys()].filter(status => ![201, 400, 404, 409].includes(status)), [], 'no deadlock, no error')
  // Requests whose client has gone may still be rolling back.
  await waitFor(() => app.db.stats().inUse === 0)
  const { rows } = await app.db.query('select id, balance::float8 from accounts')
  t.equal(rows.reduce((sum, { balance }) => sum + balance, 0), accounts * opening)
  t.ok(rows.every(({ balance }) => balance >= 0))

  const entries = readEntries((await app.inject('/ledger')).body)
  const kept = new Set(entries.map(({ id }) => id))
  t.ok(acknowledged.every(id => kept.has(id)), 'every acknowledged transfer is in the ledger')
  t.ok(entries.length - acknowledged.length <= hungUp, 'and none that was refused')
  for (const { id, balance } of rows) {
    const moved = entries.reduce(
      (sum, { from, to, amount }) => sum + (to === id ? amount : from === id ? -amount : 0), 0
    )
    t.equal(balance, opening + moved, `the ledger explains the balance of account ${id}`)
  }
})

function pick (ids: number[]): number {
  return ids[Math.floor(Math.random() * ids.length)]!
}

t.test('what the database cannot do at the moment is a 503 that says when to try again', async (t) => {
  const app = await openBank(t)
  const [ada, grace] = [await openAccount(app, 'Ada', 100), await openAccount(app, 'Grace', 100)]
  const transfer = async () => await app.inject({
    method: 'POST', url: '/transfers', payload: { from: ada, to: grace, amount: 1 }
  })
  // A deadlock that the route cannot cause by itself: a console locks in the other order.
  await app.db.scope(async (session) => {
    await session.query("set local deadlock_timeout = '1h'")
    await session.query('select from accounts where id = $1 for update', [grace])
    const waiting = transfer()
    await waitFor(async () => (await app.db.query('select from pg_locks where not granted')).rows.length > 0)
    await session.query('select from accounts where id = $1 for update', [ada])
    const { statusCode, headers, body } = await waiting
    t.match({ statusCode, headers }, { statusCode: 503, headers: { 'retry-after': '1' } })
    t.match(JSON.parse(body), { message: 'Service Unavailable' })
  })
  t.equal((await transfer()).statusCode, 201, 'the next one succeeds')
})
