import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../lib/index.ts'

t.test('a polluted Object.prototype is not taken for a route\'s options', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/before', async () => 'ok')
  await app.register(async (inner) => { inner.get('/inside', { config: {} }, async () => 'ok') })
  app.register(pgScope, { connectionString: 'postgres://127.0.0.1:1/shop', startupCheck: false, decorator: 'reporting' })
  await app.ready()
  // eslint-disable-next-line no-extend-native -- the pollution itself
  Object.defineProperty(Object.prototype, 'reporting', { value: { nonsense: 1 }, configurable: true })
  t.teardown(() => { delete (Object.prototype as { reporting?: unknown }).reporting })
  for (const url of ['/before', '/inside']) t.equal((await app.inject(url)).statusCode, 200, url)
})
