import t from 'tap'
import { call, openBank } from './helpers/bank.ts'

t.test('accounts', async t => {
  const app = await openBank(t)

  t.test('a new account is answered with its id, and can be read', async t => {
    const { status, body } = await call(app, 'POST', '/accounts', { owner: 'Ada', balance: 10_000 })
    t.equal(status, 201)
    t.same(body, { id: body.id, owner: 'Ada', balance: 10_000 })
    t.ok(Number.isInteger(body.id))
    t.match(await call(app, 'GET', `/accounts/${body.id}`), { status: 200, body })
  })

  t.test('the largest opening balance comes back to the cent', async t => {
    const { status, body } = await call(app, 'POST', '/accounts', { owner: 'Zoë 👩‍🚀', balance: 1_000_000_000_000 })
    t.equal(status, 201)
    t.match(await call(app, 'GET', `/accounts/${body.id}`), { status: 200, body: { owner: 'Zoë 👩‍🚀', balance: 1_000_000_000_000 } })
  })

  t.test('what is no account is a 404', async t => {
    for (const id of ['0', '999', '2147483648', '9999999999', '99999999999999999999', '-1', '1.5', 'ada', '%00']) {
      t.match(await call(app, 'GET', `/accounts/${id}`), { status: 404, body: { statusCode: 404, error: 'Not Found' } }, id)
    }
  })

  t.test('bad input is a 400', async t => {
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
      []
    ]
    for (const payload of bad) {
      t.match(await call(app, 'POST', '/accounts', payload), { status: 400, body: { statusCode: 400, error: 'Bad Request' } }, JSON.stringify(payload))
    }
    t.match(await call(app, 'POST', '/accounts'), { status: 400 }, 'no body')
  })
})
