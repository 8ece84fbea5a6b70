import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { Hosts } from '../../../lib/postgres/hosts.ts'
import type { TargetSessionAttrs } from '../../../types/options.ts'

const primary = { inRecovery: false, isReadOnly: false }

function hosts (names: string, wants: TargetSessionAttrs): Hosts {
  return new Hosts(names.split(',').map((host) => ({ host, port: 5432 })), wants, false)
}

/** A client whose server answers each question with this row, or fails with this error. */
function client (answer: string[] | Error): pg.Client {
  return { query: async () => { if (answer instanceof Error) throw answer; return { rows: [answer] } } } as never
}

t.test('a host whose connection is lost before it has named its timeline is not used', async (t) => {
  const both = hosts('one,two', 'primary')
  await both.accept(both.next(), client(['7', '00000001']), primary)
  both.failed(both.next(), new Error('connect ECONNREFUSED'))
  const two = both.next()
  t.equal(two.host, 'two')
  for (const lost of [
    new Error('Connection terminated unexpectedly'),
    Object.assign(new pg.DatabaseError('terminating connection', 0, 'error'), { severity: 'FATAL', code: '57P01' })
  ]) {
    await t.rejects(both.accept(two, client(lost), primary), lost)
    t.equal(both.main.host, 'one')
  }
  const refusal = Object.assign(new pg.DatabaseError('no such function', 0, 'error'), { severity: 'ERROR', code: '42883' })
  await both.accept(two, client(refusal), primary)
  t.equal(both.main.host, 'two', 'a server that does not know its timeline is used')
})

t.test('prefer-standby returns to a standby that can be reached again', async (t) => {
  const both = hosts('primary,standby', 'prefer-standby')
  const isPrimary = client(['f', 'off'])
  const first = both.next()
  await both.accept(first, isPrimary, primary).catch((error) => both.failed(first, error))
  const standby = both.next()
  t.equal(standby.host, 'standby')
  both.failed(standby, new Error('connect ECONNREFUSED'))
  await both.accept(both.next(), isPrimary, primary)
  t.equal(both.next().host, 'primary', 'the standby is left alone for a moment')
  first.attempts = 0
  await sleep(60)
  const again = both.next()
  t.equal(again.host, 'standby')
  t.equal(both.next().host, 'primary', 'one connection at a time')
  await both.accept(again, client(['t', 'off']), null)
  t.equal(both.next().host, 'standby')
})

t.test('while connections wait for a single host, it is tried again as soon as its delay is over', async (t) => {
  const one = hosts('one', 'primary')
  const host = one.next()
  one.failed(host, new Error('connect ECONNREFUSED'))
  await sleep(60)
  one.next()
  t.notOk(one.mayTry(() => {}), 'another connection is being opened')
  one.failed(host, new Error('connect ECONNREFUSED'))
  const began = performance.now()
  await new Promise<void>((resolve) => { t.notOk(one.mayTry(resolve)) })
  t.ok(performance.now() - began < 300)
})
