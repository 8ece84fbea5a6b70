import t from 'tap'
import { balanceOf, call, openAccount, openBank, readEntries } from './helpers/bank.ts'

t.test('transfers', async t => {
  const app = await openBank(t)
  const ada = await openAccount(app, 'Ada', 10_000)
  const grace = await openAccount(app, 'Grace', 0)
  const balances = async () => [await balanceOf(app, ada), await balanceOf(app, grace)]
  const transfer = (from: unknown, to: unknown, amount: unknown) => call(app, 'POST', '/transfers', { from, to, amount } as object)

  t.test('a transfer moves the money and is in the ledger', async t => {
    const { status, body } = await transfer(ada, grace, 2500)
    t.equal(status, 201)
    t.same(Object.keys(body), ['id'])
    t.same(await balances(), [7500, 2500])
    const entries = readEntries((await app.inject('/ledger')).body)
    t.match(entries, [{ id: body.id, from: ada, to: grace, amount: 2500 }])
    t.equal((await transfer(grace, ada, 2500)).status, 201, 'and back, to the last cent')
    t.same(await balances(), [10_000, 0])
  })

  t.test('a balance that does not suffice is a 409, and nothing has moved', async t => {
    const before = (await app.inject('/ledger')).body
    t.match(await transfer(ada, grace, 10_001), { status: 409, body: { statusCode: 409, error: 'Conflict', code: 'BALANCE_TOO_LOW' } })
    t.same(await balances(), [10_000, 0])
    t.equal((await app.inject('/ledger')).body, before)
  })

  t.test('an unknown account is a 404 on either side, whatever the balance', async t => {
    for (const unknown of [999, 2147483648, Number.MAX_SAFE_INTEGER]) {
      for (const [from, to] of [[ada, unknown], [unknown, ada], [grace, unknown], [unknown, unknown + -1]]) {
        t.match(await transfer(from, to, 1), { status: 404, body: { code: 'UNKNOWN_ACCOUNT' } }, `${from} → ${to}`)
      }
    }
    t.same(await balances(), [10_000, 0])
  })

  t.test('bad input is a 400', async t => {
    t.match(await transfer(ada, ada, 1), { status: 400, body: { code: 'SAME_ACCOUNT' } })
    for (const amount of [0, -1, 0.5, 1_000_000_001, '5', null, true, undefined]) t.equal((await transfer(ada, grace, amount)).status, 400, `amount ${amount}`)
    for (const id of [0, -1, 1.5, `${ada}`, null, [ada], 1e300, undefined]) {
      t.equal((await transfer(id, grace, 1)).status, 400, `from ${id}`)
      t.equal((await transfer(ada, id, 1)).status, 400, `to ${id}`)
    }
    t.equal((await call(app, 'POST', '/transfers', { from: ada, to: grace, amount: 1, note: 'x' })).status, 400, 'a property too many')
    t.same(await balances(), [10_000, 0])
  })

  t.test('an account that would hold more than a number can count is refused', async t => {
    await app.db.query('update accounts set balance = $1 where id = $2', [Number.MAX_SAFE_INTEGER, grace])
    t.match(await transfer(ada, grace, 1), { status: 409, body: { code: 'BALANCE_TOO_HIGH' } })
    t.same(await balances(), [10_000, Number.MAX_SAFE_INTEGER])
  })
})

t.test('what the database cannot do at the moment is a 503 that says when to try again', async t => {
  const app = await openBank(t)
  const [ada, grace] = [await openAccount(app, 'Ada', 100), await openAccount(app, 'Grace', 100)]
  // A deadlock that the route cannot cause by itself: somebody at a console locks in the other order.
  await app.db.scope(async session => {
    await session.query('set local deadlock_timeout = \'1h\'')
    await session.query('select from accounts where id = $1 for update', [grace])
    const waiting = call(app, 'POST', '/transfers', { from: ada, to: grace, amount: 1 })
    await untilSomebodyWaits()
    await session.query('select from accounts where id = $1 for update', [ada])
    t.match(await waiting, { status: 503, headers: { 'retry-after': '1' }, body: { statusCode: 503, message: 'Service Unavailable' } })
  })
  t.equal((await call(app, 'POST', '/transfers', { from: ada, to: grace, amount: 1 })).status, 201, 'the next one succeeds')

  async function untilSomebodyWaits () {
    for (;;) {
      const { rows } = await app.db.query('select from pg_locks where not granted')
      if (rows.length > 0) return
    }
  }
})
