import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import { isPgScopeError, pgScopeError, type PgScopeErrorCode } from '../../lib/errors.ts'

t.test('an error carries its code, the status that Fastify answers with, the details and the cause', async (t) => {
  const cause = new Error('the reason')
  const error = pgScopeError('FST_PG_SCOPE_CONSTRAINT_VIOLATION', 'COMMIT was refused', cause)
  t.ok(error instanceof Error)
  t.match(error, { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', statusCode: 409, details: 'COMMIT was refused' })
  t.equal(error.cause, cause)
  t.equal(pgScopeError('FST_PG_SCOPE_CLOSED', 'closed').cause, undefined)
})

t.test('details are taken as they are, percent signs and all', async (t) => {
  t.equal(pgScopeError('FST_PG_SCOPE_OPTIONS', 'up to 10 % of %s and %d').details, 'up to 10 % of %s and %d')
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
  ['FST_PG_SCOPE_COMMIT_UNKNOWN', 500],
  ['FST_PG_SCOPE_ANSWER_FAILED', 500]
]

for (const [code, status, retryAfter] of statuses) {
  t.test(`${code} is answered with ${status}${retryAfter === undefined ? ' and no invitation to try again' : `, and Retry-After: ${retryAfter}`}`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.get('/', () => { throw pgScopeError(code, 'the details') })
    const response = await app.inject('/')
    t.equal(response.statusCode, status)
    t.equal(response.headers['retry-after'], retryAfter)
    t.match(response.json(), { code, message: new RegExp(`^${code}: `) })
  })
}

t.test('what a handler may show of an error says nothing of its details or its cause', async (t) => {
  const error = pgScopeError('FST_PG_SCOPE_UNREACHABLE', 'the host 10.0.0.1', new Error('the user app'))
  for (const shown of [error.message, String(error), JSON.stringify(error), JSON.stringify({ ...error })]) {
    t.match(shown, 'FST_PG_SCOPE_UNREACHABLE')
    t.notMatch(shown, /the host|the user/)
  }
})

t.test('the stack, the console and the log show the details and the cause', async (t) => {
  const error = pgScopeError('FST_PG_SCOPE_UNREACHABLE', 'the host 10.0.0.1', new Error('the user app'))
  t.match(error.stack, /^FastifyError: the host 10\.0\.0\.1\n/)
  t.match(inspect(error), /the host 10\.0\.0\.1[^]*the user app/)
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  app.log.error({ err: error })
  t.match(JSON.parse(lines[0]!).err, { details: 'the host 10.0.0.1', message: /^FST_PG_SCOPE_UNREACHABLE: .*: the user app$/, stack: /the host.*caused by: Error: the user app/s })
})

t.test('isPgScopeError() knows our errors, also those of another copy of this package, and no others', async (t) => {
  t.ok(isPgScopeError(pgScopeError('FST_PG_SCOPE_CLOSED', 'closed')))
  t.ok(isPgScopeError(Object.assign(new Error('closed'), { code: 'FST_PG_SCOPE_CLOSED' })))
  for (const other of [null, undefined, 'FST_PG_SCOPE_CLOSED', { code: 'FST_PG_SCOPE_CLOSED' }, new Error('x'), Object.assign(new Error('x'), { code: '23505' }), Object.assign(new Error('x'), { code: 'toString' }), Object.assign(new Error('x'), { code: 42 })]) {
    t.notOk(isPgScopeError(other))
  }
})
