import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { OutcomeHooks } from '../../../lib/session/outcome-hooks.ts'
import { Frame } from '../../../lib/session/savepoint.ts'
import { Savepoints } from '../../../lib/session/savepoints.ts'

function setUp () {
  const failures: unknown[] = []
  const pending = new Set<Promise<unknown>>()
  const ran: string[] = []
  const hooks = new OutcomeHooks({ pending, report: (error) => failures.push(error) })
  return { failures, pending, ran, hooks, note: (name: string) => () => { ran.push(name) } }
}

t.test('hooks run in the order in which they were registered, each once', async t => {
  const { hooks, ran, note } = setUp()
  hooks.afterCommit(note('a'))
  hooks.afterRollback(note('never'))
  hooks.afterCommit(note('b'))
  hooks.committed()
  hooks.committed()
  hooks.rolledBack()
  t.same(ran, ['a', 'b'])
})

t.test('a rollback runs its own hooks, and drops those of the commit', async t => {
  const { hooks, ran, note } = setUp()
  hooks.afterRollback(note('a'))
  hooks.afterCommit(note('never'))
  hooks.afterRollback(note('b'))
  hooks.rolledBack()
  hooks.committed()
  t.same(ran, ['a', 'b'])
})

t.test('a rolled back savepoint takes only what was registered in it', async t => {
  const { hooks, ran, note } = setUp()
  hooks.afterCommit(note('before'))
  hooks.afterRollback(note('never'))
  const savepoints = new Savepoints()
  const outer = new Frame(savepoints)
  savepoints.open(outer)
  outer.hooks = hooks.count
  const inner = new Frame(savepoints)
  savepoints.open(inner)
  hooks.afterCommit(note('never'), outer)
  hooks.afterRollback(note('inside'), inner)
  hooks.afterCommit(note('beside'))
  hooks.savepointRolledBack(outer)
  hooks.afterCommit(note('behind'))
  hooks.committed()
  t.same(ran, ['inside', 'before', 'beside', 'behind'])
})

t.test('a hook that throws is reported, and the others run', async t => {
  const { hooks, ran, note, failures } = setUp()
  hooks.afterCommit(() => { throw new Error('broken') })
  hooks.afterCommit(note('b'))
  hooks.committed()
  t.same(ran, ['b'])
  t.match(failures, [{ message: 'broken' }])
})

t.test('a hook that rejects is reported, and is pending until then', async t => {
  const { hooks, failures, pending } = setUp()
  hooks.afterCommit(async () => { throw new Error('broken') })
  hooks.committed()
  t.equal(pending.size, 1)
  await Promise.all(pending)
  t.match(failures, [{ message: 'broken' }])
  t.equal(pending.size, 0)
})

t.test('a thenable that is no promise is followed too', async t => {
  const { hooks, failures, pending } = setUp()
  hooks.afterCommit(() => ({ then: (_resolve: unknown, reject: (error: Error) => void) => reject(new Error('broken')) }))
  hooks.committed()
  await Promise.all(pending)
  t.match(failures, [{ message: 'broken' }])
})

t.test('a hook that registers another one while hooks run does not make it run for the same outcome', async t => {
  const { hooks, ran, note } = setUp()
  hooks.afterCommit(() => hooks.afterCommit(note('next')))
  hooks.committed()
  t.same(ran, [])
  hooks.committed()
  t.same(ran, ['next'], 'it belongs to the next transaction')
})

t.test('a hook runs in the async context that it was registered in', async t => {
  const { hooks } = setUp()
  const context = new AsyncLocalStorage<string>()
  const seen: unknown[] = []
  context.run('registered', () => {
    hooks.afterRollback(() => seen.push(context.getStore()))
    hooks.afterRollback(() => seen.push(context.getStore()), new Frame(new Savepoints()))
  })
  context.run('another', () => hooks.rolledBack())
  t.same(seen, ['registered', 'registered'])
})
