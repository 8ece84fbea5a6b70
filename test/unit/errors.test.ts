import Fastify from 'fastify'
import t from 'tap'
import { isPgScopeError, pgScopeError, type PgScopeErrorCode } from '../../lib/errors.ts'

t.test('an error carries its code, the status that Fastify answers with, the message and the cause', async (t) => {
  const cause = new Error('the reason')
  const error = pgScopeError('FST_PG_SCOPE_CONSTRAINT_VIOLATION', 'COMMIT was refused', cause)
  t.ok(error instanceof Error)
  t.match(error, { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', statusCode: 409, message: 'COMMIT was refused' })
  t.equal(error.cause, cause)
  t.equal(pgScopeError('FST_PG_SCOPE_CLOSED', 'closed').cause, undefined)
})

t.test('a message is taken as it is, percent signs and all', async (t) => {
  t.equal(pgScopeError('FST_PG_SCOPE_OPTIONS', 'up to 10 % of %s and %d').message, 'up to 10 % of %s and %d')
})

const statuses: [PgScopeErrorCode, number, string?][] = [
  ['FST_PG_SCOPE_OPTIONS', 500],
  ['FST_PG_SCOPE_DECORATOR_TAKEN', 500],
  ['FST_PG_SCOPE_UNREACHABLE', 503, '1'],
  ['FST_PG_SCOPE_LOGIN_REFUSED', 503, '5'],
  ['FST_PG_SCOPE_POOL_EXHAUSTED', 503, '1'],
  ['FST_PG_SCOPE_POOL_QUEUE_FULL', 503, '1'],
  ['FST_PG_SCOPE_CLOSED', 503, '1'],
  ['FST_PG_SCOPE_SESSION_CLOSED', 500],
  ['FST_PG_SCOPE_TRANSACTION_ABORTED', 500],
  ['FST_PG_SCOPE_CANCELED', 503],
  ['FST_PG_SCOPE_CONNECTION_LOST', 503, '1'],
  ['FST_PG_SCOPE_CONSTRAINT_VIOLATION', 409],
  ['FST_PG_SCOPE_SERIALIZATION_FAILURE', 503, '1'],
  ['FST_PG_SCOPE_COMMIT_FAILED', 500],
  ['FST_PG_SCOPE_COMMIT_UNKNOWN', 500]
]

for (const [code, status, retryAfter] of statuses) {
  t.test(`${code} is answered with ${status}${retryAfter === undefined ? ' and no invitation to try again' : `, and Retry-After: ${retryAfter}`}`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.get('/', () => { throw pgScopeError(code, 'what happened') })
    const response = await app.inject('/')
    t.equal(response.statusCode, status)
    t.equal(response.headers['retry-after'], retryAfter)
    t.match(response.json(), { code, message: 'what happened' })
  })
}

t.test('isPgScopeError() knows our errors, also those of another copy of this package, and no others', async (t) => {
  t.ok(isPgScopeError(pgScopeError('FST_PG_SCOPE_CLOSED', 'closed')))
  t.ok(isPgScopeError(Object.assign(new Error('closed'), { code: 'FST_PG_SCOPE_CLOSED' })))
  for (const other of [null, undefined, 'FST_PG_SCOPE_CLOSED', { code: 'FST_PG_SCOPE_CLOSED' }, new Error('x'), Object.assign(new Error('x'), { code: '23505' }), Object.assign(new Error('x'), { code: 'toString' }), Object.assign(new Error('x'), { code: 42 })]) {
    t.notOk(isPgScopeError(other))
  }
})
