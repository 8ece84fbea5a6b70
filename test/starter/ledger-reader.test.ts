import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { openAccount, openBank, readEntries } from './bank.ts'
import { waitFor } from '../../harness/wait-for.ts'

t.test('a ledger of many transfers', async (t) => {
  const app = await openBank(t)
  const [ada, grace] = [await openAccount(app, 'Ada', 0), await openAccount(app, 'Grace', 0)]
  const count = 100_000
  const insert = 'insert into transfers (sender, receiver, amount) select $1, $2, n from generate_series(1, $3::int) n'
  await app.db.query(insert, [ada, grace, count])

  t.test('is complete, and in the order of the ids', async (t) => {
    const entries = readEntries((await app.inject('/ledger')).body)
    t.equal(entries.length, count)
    t.ok(entries.every(({ id, amount }, index) => id === index + 1 && amount === index + 1))
  })

  t.test('gives a reader that stops no more than it takes, and the connection back when it leaves', async (t) => {
    await app.listen({ port: 0 })
    const { port } = app.server.address() as AddressInfo
    const request = get({ port, path: '/ledger' })
    const [response] = await once(request, 'response') as [IncomingMessage]
    response.pause()
    t.equal(app.db.stats().inUse, 1, 'the rows wait in the database')
    request.on('error', () => {})
    request.destroy()
    await waitFor(() => app.db.stats().inUse === 0)
  })
})
