import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildApp } from '../src/app.ts'

const starting = async (env: Record<string, string>) => {
  const app = buildApp({ env: { LOG_LEVEL: 'silent', ...env } })
  try {
    await app.ready()
  } finally {
    await app.close()
  }
}

test('a value that is wrong stops the start', async () => {
  await assert.rejects(starting({ PORT: 'http' }), /PORT must be integer/)
  await assert.rejects(starting({ LOG_LEVEL: 'loud' }), /LOG_LEVEL/)
})

test('production needs a database of its own', async () => {
  await assert.rejects(starting({ NODE_ENV: 'production' }), /DATABASE_URL is not set/)
})
