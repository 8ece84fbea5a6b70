import pg from 'pg'
import t from 'tap'
import { refusesStartup } from '../../../lib/pgbouncer/detect.ts'
import { ruleFor } from '../../../lib/pgbouncer/rules.ts'
import { failureKind, ranOutOfTime } from '../../../lib/postgres/sqlstate.ts'
import { textKind } from '../../../lib/exchange/statement-text.ts'

function said (message: string): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError(message, message.length, 'error'), { severity: 'FATAL', code: '08P01' })
}

t.test('what PgBouncer says with 08P01 is told by its words', async (t) => {
  t.equal(failureKind(said('no more connections allowed (max_client_conn)')), 'too-many-connections')
  t.equal(failureKind(said('no such database: nope')), 'login')
  t.equal(failureKind(said('no such user: nobody')), 'login')
  t.equal(failureKind(said('SASL authentication failed')), 'login')
  t.equal(failureKind(said('database "nope" does not exist')), 'login')
  t.equal(failureKind(said('role "app" is not permitted to log in')), 'login')
  t.equal(failureKind(said('permission denied for database "shop"')), 'login')
  t.equal(failureKind(said('password authentication failed for user "app"')), 'login')
  for (const reason of ['too many connections for role "app"', 'too many connections for database "shop"', 'sorry, too many clients already', 'remaining connection slots are reserved for roles with the SUPERUSER attribute']) {
    t.equal(failureKind(said(reason)), 'too-many-connections', reason)
  }
  t.equal(failureKind(said('server conn crashed?')), 'connection-lost')
  t.ok(ranOutOfTime(said('query_wait_timeout')))
  t.notOk(ranOutOfTime(said('client_idle_timeout')))
})

t.test('a startup parameter that PgBouncer refuses is one of ours, or nothing that could be mended', async (t) => {
  const ours = ['statement_timeout', 'lock_timeout']
  t.ok(refusesStartup(said('unsupported startup parameter: lock_timeout'), ours))
  t.notOk(refusesStartup(said('unsupported startup parameter: options'), ours))
  t.notOk(refusesStartup(said('unsupported startup parameter: lock_timeouts'), ours))
  t.notOk(refusesStartup(said('no more connections allowed (max_client_conn)'), ours))
  t.notOk(refusesStartup(new Error('unsupported'), ours))
})

// A search that tries every way to split them would not come back from thousands.
t.test('no number of comments or spaces in front of a statement makes it slow to look at', async (t) => {
  const comments = '/* a */ '.repeat(5000)
  t.equal(ruleFor(`${comments}LISTEN x`)?.what, 'LISTEN')
  t.equal(ruleFor(`${comments}SELECT 1`), null)
  t.equal(textKind(`${comments}COMMIT`), 'transaction-control')
  t.equal(textKind(`${comments}SELECT 1`), 'plain')
  t.equal(textKind(`${' '.repeat(50000)};`), 'plain')
})
