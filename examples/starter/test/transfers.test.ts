import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { balanceOf, call, openAccount, openSandboxedBank, readEntries } from './helpers/bank.ts'

const app = await openSandboxedBank()
let ada: number
let grace: number

beforeEach(async () => {
  ada = await openAccount(app, 'Ada', 10_000)
  grace = await openAccount(app, 'Grace', 0)
})

const balances = async () => [await balanceOf(app, ada), await balanceOf(app, grace)]
const transfer = (from: unknown, to: unknown, amount: unknown) =>
  call(app, 'POST', '/transfers', { from, to, amount } as object)
const ledger = async () => readEntries((await app.inject('/ledger')).body)

test('a transfer moves the money and is in the ledger', async () => {
  const { status, body } = await transfer(ada, grace, 2500)
  assert.equal(status, 201)
  assert.deepEqual(Object.keys(body), ['id'])
  assert.deepEqual(await balances(), [7500, 2500])
  const { at, ...entry } = (await ledger()).at(-1)!
  assert.deepEqual(entry, { id: body.id, from: ada, to: grace, amount: 2500 })
  assert.equal((await transfer(grace, ada, 2500)).status, 201, 'and back, to the last cent')
  assert.deepEqual(await balances(), [10_000, 0])
})

test('a balance that does not suffice is a 409, and nothing has moved', async () => {
  const before = await ledger()
  const { status, body } = await transfer(ada, grace, 10_001)
  assert.equal(status, 409)
  assert.equal(body.code, 'BALANCE_TOO_LOW')
  assert.deepEqual(await balances(), [10_000, 0])
  assert.deepEqual(await ledger(), before)
})

test('an unknown account is a 404 on either side, whatever the balance', async () => {
  for (const unknown of [999_999, 2147483648, Number.MAX_SAFE_INTEGER]) {
    for (const [from, to] of [[ada, unknown], [unknown, ada], [grace, unknown], [unknown, unknown - 1]]) {
      const { status, body } = await transfer(from, to, 1)
      assert.equal(status, 404, `${from} → ${to}`)
      assert.equal(body.code, 'UNKNOWN_ACCOUNT')
    }
  }
  assert.deepEqual(await balances(), [10_000, 0])
})

test('bad input is a 400', async () => {
  assert.equal((await transfer(ada, ada, 1)).body.code, 'SAME_ACCOUNT')
  for (const amount of [0, -1, 0.5, 1_000_000_001, '5', null, true, undefined]) {
    assert.equal((await transfer(ada, grace, amount)).status, 400, `amount ${amount}`)
  }
  for (const id of [0, -1, 1.5, `${ada}`, null, [ada], 1e300, undefined]) {
    assert.equal((await transfer(id, grace, 1)).status, 400, `from ${id}`)
    assert.equal((await transfer(ada, id, 1)).status, 400, `to ${id}`)
  }
  const { status } = await call(app, 'POST', '/transfers', { from: ada, to: grace, amount: 1, note: 'x' })
  assert.equal(status, 400, 'a property too many')
  assert.deepEqual(await balances(), [10_000, 0])
})

test('an account that would hold more than a number can count is refused', async () => {
  await app.db.query('update accounts set balance = $1 where id = $2', [Number.MAX_SAFE_INTEGER, grace])
  const { status, body } = await transfer(ada, grace, 1)
  assert.equal(status, 409)
  assert.equal(body.code, 'BALANCE_TOO_HIGH')
  assert.deepEqual(await balances(), [10_000, Number.MAX_SAFE_INTEGER])
})
