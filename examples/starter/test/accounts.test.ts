import assert from 'node:assert/strict'
import { test } from 'node:test'
import { call, openSandboxedBank } from './helpers/bank.ts'

const app = await openSandboxedBank()

test('a new account is answered with its id, and can be read', async () => {
  const { status, body } = await call(app, 'POST', '/accounts', { owner: 'Ada', balance: 10_000 })
  assert.equal(status, 201)
  assert.deepEqual(body, { id: body.id, owner: 'Ada', balance: 10_000 })
  assert.ok(Number.isInteger(body.id))
  assert.deepEqual((await call(app, 'GET', `/accounts/${body.id}`)).body, body)
})

test('the largest opening balance comes back to the cent', async () => {
  const account = { owner: 'Zoë 👩‍🚀', balance: 1_000_000_000_000 }
  const { status, body: { id } } = await call(app, 'POST', '/accounts', account)
  assert.equal(status, 201)
  assert.deepEqual((await call(app, 'GET', `/accounts/${id}`)).body, { id, ...account })
})

test('what is no account is a 404', async () => {
  for (const id of ['0', '999', '2147483648', '9999999999', '99999999999999999999', '-1', '1.5', 'ada', '%00']) {
    const { status, body } = await call(app, 'GET', `/accounts/${id}`)
    assert.equal(status, 404, id)
    assert.equal(body.error, 'Not Found')
  }
})

test('bad input is a 400', async () => {
  const bad = [
    {},
    { owner: 'Ada' },
    { balance: 1 },
    { owner: '', balance: 1 },
    { owner: '  ', balance: 1 },
    { owner: 'a\u0000b', balance: 1 },
    { owner: '\ud800', balance: 1 },
    { owner: 'a'.repeat(201), balance: 1 },
    { owner: 5, balance: 1 },
    { owner: 'Ada', balance: '5' },
    { owner: 'Ada', balance: 1.5 },
    { owner: 'Ada', balance: -1 },
    { owner: 'Ada', balance: 1e13 },
    { owner: 'Ada', balance: null },
    { owner: 'Ada', balance: 1, admin: true },
    [],
    undefined
  ]
  for (const payload of bad) {
    const { status, body } = await call(app, 'POST', '/accounts', payload)
    assert.equal(status, 400, JSON.stringify(payload))
    assert.equal(body.error, 'Bad Request')
  }
})
