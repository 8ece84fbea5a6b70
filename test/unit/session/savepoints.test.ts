import t from 'tap'
import { AsyncLocalStorage } from 'node:async_hooks'
import { setImmediate as turn } from 'node:timers/promises'
import type { Frame } from '../../../lib/session/savepoint.ts'
import { Savepoints } from '../../../lib/session/savepoints.ts'
import type { Transaction } from '../../../lib/exchange/transaction.ts'

function opened (savepoints: Savepoints, fn: () => Promise<unknown>): { savepoint: Frame, done: Promise<unknown> } {
  let savepoint!: Frame
  const done = savepoints.enter(async (entered) => {
    savepoint = entered
    await fn()
  })
  return { savepoint, done }
}

t.test('without a savepoint all go on at once', async t => {
  let went = false
  const savepoints = new Savepoints()
  savepoints.inTurn(() => { went = true })
  t.equal(went, true)
  t.equal(savepoints.isEmpty, true)
})

t.test('what is called from within goes at once, also behind an await; what is called from outside waits for the end', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  const { savepoint, done } = opened(savepoints, async () => {
    savepoints.inTurn(() => went.push('inside'))
    await turn()
    savepoints.inTurn(() => went.push('behind an await'))
  })
  savepoints.inTurn(() => went.push('outside'))
  await done
  t.same(went, ['inside', 'behind an await'])
  savepoints.leave(savepoint)
  t.same(went, ['inside', 'behind an await', 'outside'])
})

t.test('waiters go on in the order in which they came, and not past one that opens a savepoint', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  const first = opened(savepoints, () => turn())
  let second!: Frame
  savepoints.inTurn(() => went.push('a'))
  savepoints.inTurn(() => savepoints.enter((entered) => { second = entered }))
  savepoints.inTurn(() => went.push('b'))
  savepoints.leave(first.savepoint)
  t.same(went, ['a'])
  savepoints.leave(second)
  t.same(went, ['a', 'b'])
})

t.test('work of an outer savepoint waits for the inner one', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  let inner!: Frame
  const outer = opened(savepoints, async () => {
    savepoints.enter((entered) => { inner = entered })
    savepoints.inTurn(() => went.push('outer'))
  })
  savepoints.inTurn(() => went.push('outside'))
  t.same(went, [])
  savepoints.leave(inner)
  t.same(went, ['outer'])
  savepoints.leave(outer.savepoint)
  t.same(went, ['outer', 'outside'])
})

t.test('work that a function left behind belongs to what is around it', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  const { savepoint } = opened(savepoints, async () => {
    setImmediate(() => savepoints.inTurn(() => went.push('late')))
  })
  savepoints.leave(savepoint)
  await turn()
  t.same(went, ['late'])
})

t.test('the savepoints of another session do not count', async t => {
  const one = new Savepoints()
  const other = new Savepoints()
  const went: string[] = []
  const { savepoint } = opened(one, async () => {
    const { savepoint } = opened(other, async () => one.inTurn(() => went.push('through the other')))
    other.leave(savepoint)
  })
  t.same(went, ['through the other'])
  one.leave(savepoint)
})

t.test('when a session ends early, all waiters go on', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  const { savepoint } = opened(savepoints, async () => {})
  savepoints.inTurn(() => went.push('a'))
  savepoints.inTurn(() => went.push('b'))
  savepoints.startAll()
  t.same(went, ['a', 'b'])
  savepoints.leave(savepoint)
})

t.test('SAVEPOINT is sent once for each, outermost first, and again in another transaction', async t => {
  const savepoints = new Savepoints()
  const one = {} as Transaction
  const other = {} as Transaction
  const texts = (transaction: Transaction) => savepoints.controlStatements(transaction).map(({ text }) => text)
  opened(savepoints, async () => {
    t.same(texts(one), ['SAVEPOINT scope_1'])
    opened(savepoints, async () => {
      opened(savepoints, async () => {})
    })
  })
  t.same(texts(one), ['SAVEPOINT scope_2', 'SAVEPOINT scope_3'])
  t.same(texts(one), [])
  t.same(texts(other), ['SAVEPOINT scope_1', 'SAVEPOINT scope_2', 'SAVEPOINT scope_3'])
})

t.test('RELEASE waits for the next statement, and one around others covers them', async t => {
  const savepoints = new Savepoints()
  const transaction = {} as Transaction
  const texts = () => savepoints.controlStatements(transaction).map(({ text }) => text)
  const end = (savepoint: Frame): void => {
    savepoints.release(savepoint)
    savepoints.leave(savepoint)
  }
  let first!: Frame, second!: Frame
  savepoints.enter((entered) => {
    first = entered
    savepoints.enter((entered) => { second = entered })
  })
  texts()
  end(second)
  t.equal(savepoints.isEmpty, false)
  end(first)
  t.same(texts(), ['RELEASE SAVEPOINT scope_1'])
  t.equal(savepoints.isEmpty, true)
  savepoints.enter((entered) => { first = entered })
  texts()
  end(first)
  savepoints.enter((entered) => { second = entered })
  t.same(texts(), ['RELEASE SAVEPOINT scope_3', 'SAVEPOINT scope_4'])
  savepoints.dropReleases(second)
  savepoints.leave(second)
  t.same(texts(), [])
})

t.test('while all are held up, they wait in order', async t => {
  const savepoints = new Savepoints()
  const went: string[] = []
  savepoints.hold()
  savepoints.inTurn(() => went.push('a'))
  savepoints.inTurn(() => went.push('b'))
  t.same(went, [])
  savepoints.proceed()
  t.same(went, ['a', 'b'])
})

t.test('a waiter goes on in its own async context', async t => {
  const context = new AsyncLocalStorage<string>()
  const savepoints = new Savepoints()
  savepoints.hold()
  let seen: string | undefined
  context.run('the caller', () => savepoints.inTurn(() => { seen = context.getStore() }))
  context.run('another', () => savepoints.proceed())
  t.equal(seen, 'the caller')
})
