import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { openAccount, openBank, readEntries } from './helpers/bank.ts'

t.test('ledger', async t => {
  const app = await openBank(t)

  t.test('an empty ledger is an empty body', async t => {
    const { statusCode, body } = await app.inject('/ledger')
    t.match({ statusCode, body }, { statusCode: 200, body: '' })
  })

  const [ada, grace] = [await openAccount(app, 'Ada', 0), await openAccount(app, 'Grace', 0)]
  const count = 100_000
  await app.db.query('insert into transfers (sender, receiver, amount) select $1, $2, n from generate_series(1, $3::int) n', [ada, grace, count])

  t.test('every transfer is a line, in the order of the ids', async t => {
    const { headers, body } = await app.inject('/ledger')
    t.match(headers['content-type'], 'application/x-ndjson')
    const entries = readEntries(body)
    t.equal(entries.length, count)
    t.match(entries[0], { id: 1, from: ada, to: grace, amount: 1 })
    t.ok(entries.every(({ id, amount }, index) => id === index + 1 && amount === index + 1))
  })

  t.test('a reader that stops gets no more than it takes, and one that leaves gives the connection back', async t => {
    await app.listen({ port: 0 })
    const { port } = app.server.address() as AddressInfo
    const request = get({ port, path: '/ledger' })
    const [response] = await once(request, 'response') as [IncomingMessage]
    response.pause()
    await sleep(200)
    t.equal(app.db.stats().inUse, 1, 'the rows wait in the database')
    request.on('error', () => {})
    request.destroy()
    for (let tries = 0; app.db.stats().inUse > 0 && tries < 1500; tries++) await sleep(10)
    t.equal(app.db.stats().inUse, 0)
  })
})
