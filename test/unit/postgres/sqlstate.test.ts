import t from 'tap'
import pg from 'pg'
import { failureKind } from '../../../lib/postgres/sqlstate.ts'

function databaseError (code: string | undefined, severity = 'ERROR'): pg.DatabaseError {
  const error = new pg.DatabaseError('a message', 0, 'error')
  Object.assign(error, { code, severity })
  return error
}

const cases: [string, string, string][] = [
  ['08006', 'ERROR', 'connection-lost'],
  ['08P01', 'FATAL', 'connection-lost'],
  ['57P01', 'FATAL', 'connection-lost'],
  ['57P02', 'FATAL', 'connection-lost'],
  ['57P03', 'FATAL', 'connection-lost'],
  ['57P05', 'FATAL', 'connection-lost'],
  ['25P03', 'FATAL', 'connection-lost'],
  ['25P04', 'FATAL', 'connection-lost'],
  ['40001', 'ERROR', 'serialization'],
  ['40P01', 'ERROR', 'serialization'],
  ['40002', 'ERROR', 'other'],
  ['23505', 'ERROR', 'constraint'],
  ['23503', 'ERROR', 'constraint'],
  ['23P01', 'ERROR', 'constraint'],
  ['25P02', 'ERROR', 'aborted-transaction'],
  ['25006', 'ERROR', 'other'],
  ['57014', 'ERROR', 'canceled'],
  ['28P01', 'FATAL', 'login'],
  ['28000', 'FATAL', 'login'],
  ['3D000', 'FATAL', 'login'],
  ['42501', 'FATAL', 'login'],
  ['42501', 'ERROR', 'other'],
  ['53300', 'FATAL', 'too-many-connections'],
  ['42P01', 'ERROR', 'other'],
  ['XX000', 'PANIC', 'connection-lost'],
  ['42P01', 'FATAL', 'connection-lost'],
  ['40001', 'FATAL', 'connection-lost']
]

for (const [code, severity, kind] of cases) {
  t.test(`${severity} ${code} is ${kind}`, async t => {
    t.equal(failureKind(databaseError(code, severity)), kind)
  })
}

t.test('an answer without a code tells nothing, unless it is FATAL', async t => {
  t.equal(failureKind(databaseError(undefined)), 'other')
  t.equal(failureKind(databaseError(undefined, 'FATAL')), 'connection-lost')
})

t.test('what comes from the socket means that the connection is lost', async t => {
  t.equal(failureKind(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })), 'connection-lost')
  t.equal(failureKind(new Error('Connection terminated unexpectedly')), 'connection-lost')
})
