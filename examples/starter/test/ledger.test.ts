import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openAccount, openSandboxedBank, readEntries } from './helpers/bank.ts'

const app = await openSandboxedBank()

test('every transfer is a line, in the order of the ids', async () => {
  const [ada, grace] = [await openAccount(app, 'Ada', 0), await openAccount(app, 'Grace', 0)]
  const insert = 'insert into transfers (sender, receiver, amount) select $1, $2, n from generate_series(1, 1000) n'
  await app.db.query(insert, [ada, grace])
  const { headers, body } = await app.inject('/ledger')
  assert.equal(headers['content-type'], 'application/x-ndjson')
  const entries = readEntries(body)
  assert.deepEqual(entries.map(({ amount }) => amount), Array.from({ length: 1000 }, (_, index) => index + 1))
  assert.ok(entries.every(({ from, to }) => from === ada && to === grace))
})

test('an empty ledger is an empty body, also after a test that has filled it', async () => {
  const { statusCode, body } = await app.inject('/ledger')
  assert.equal(statusCode, 200)
  assert.equal(body, '')
})
