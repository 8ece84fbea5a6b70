import t from 'tap'
import { applicationName, cut } from '../../../lib/postgres/application-name.ts'

t.test('a name of up to 63 bytes stays whole', async t => {
  t.equal(cut(''), '')
  t.equal(cut('short'), 'short')
  t.equal(cut('x'.repeat(63)), 'x'.repeat(63))
})

t.test('a longer one is cut to 63 bytes', async t => {
  t.equal(cut('x'.repeat(64)), 'x'.repeat(63))
})

t.test('no character is cut in half', async t => {
  t.equal(cut('x'.repeat(62) + 'é'), 'x'.repeat(62), 'two bytes')
  t.equal(cut('x'.repeat(61) + 'é'), 'x'.repeat(61) + 'é')
  t.equal(cut('x'.repeat(61) + '€'), 'x'.repeat(61), 'three bytes')
  t.equal(cut('x'.repeat(60) + '🐘'), 'x'.repeat(60), 'four bytes, and two units of a JavaScript string')
  t.equal(cut('x'.repeat(59) + '🐘'), 'x'.repeat(59) + '🐘')
  t.equal(Buffer.byteLength(cut('🐘'.repeat(40))), 60)
})

t.test('the name has the program, its user and its host', async t => {
  t.match(applicationName(), /^[^:]+:[^@]+@.+/)
  t.ok(Buffer.byteLength(applicationName()) <= 63)
})

t.test('PGAPPNAME wins', async t => {
  const before = process.env.PGAPPNAME
  t.teardown(() => {
    if (before === undefined) delete process.env.PGAPPNAME
    else process.env.PGAPPNAME = before
  })
  process.env.PGAPPNAME = 'chosen'
  t.equal(applicationName(), 'chosen')
})
