import type { FastifyError } from 'fastify'
import { isPgScopeError, type PgScopeError, type PgScopeErrorCode } from '../../lib/index.ts'
import { expect, typeOf, type Equal } from './expect.ts'

const caught: unknown = new Error('something')

if (isPgScopeError(caught)) {
  typeOf(caught).is<PgScopeError>()
  typeOf(caught.code).is<PgScopeErrorCode>()
  const general: FastifyError = caught
  console.error(general.statusCode, caught.cause, caught.headers?.['retry-after'])
  switch (caught.code) {
    case 'FST_PG_SCOPE_COMMIT_UNKNOWN': break
    case 'FST_PG_SCOPE_POOL_EXHAUSTED': break
    // @ts-expect-error no such code
    case 'FST_PG_SCOPE_NONSENSE': break
  }
} else {
  typeOf(caught).is<unknown>()
}

// The codes are a union of literals, not any text
expect<Equal<string extends PgScopeErrorCode ? true : false, false>>()
expect<Equal<Exclude<PgScopeErrorCode, `FST_PG_SCOPE_${string}`>, never>>()
const code: PgScopeErrorCode = 'FST_PG_SCOPE_OPTIONS'
console.error(code)
// @ts-expect-error a code of Fastify's own
const foreign: PgScopeErrorCode = 'FST_ERR_VALIDATION'
console.error(foreign)
