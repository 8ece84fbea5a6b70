import type { FastifyRequest } from 'fastify'
import t from 'tap'
import { askEach, readRole, readSettings, settingsFor } from '../../../lib/session/request-settings.ts'

class Tenant { tenant = 'a' }

/** Neither objects literal nor without a prototype. */
const notPlain: [unknown, string][] = [
  [undefined, 'undefined'], [null, 'null'], [1, 'a number'], ['a=b', 'a string'], ['', 'an empty string'], [['a'], 'an array'], [Promise, 'a function'],
  [new Map([['app.tenant', 'secret']]), 'a Map'], [new Set(['secret']), 'a Set'], [new Date(), 'a Date'], [new Tenant(), 'a Tenant'], [Object.create({ 'app.tenant': 'secret' }), 'an Object'],
  [new URLSearchParams('a=secret'), 'a URLSearchParams'], [new Headers(), 'a Headers'], [Symbol('secret'), 'a symbol'], [true, 'a boolean']
]

t.test('settings are strings, numbers and booleans of a plain object', async t => {
  const settings = { 'app.tenant': 'a', 'app.level': 7, 'app.on': true, search_path: '' }
  const read = { 'app.tenant': 'a', 'app.level': '7', 'app.on': 'true', search_path: '' }
  t.same({ ...readSettings(settings) }, read)
  t.same({ ...readSettings(Object.assign(Object.create(null), settings)) }, read)
  t.strictSame(Object.keys(readSettings({})), [])
  t.strictSame(Object.keys(readSettings(JSON.parse('{"__proto__":"x"}'))), ['__proto__'], 'a name that means something to JavaScript is not lost')
})

for (const [value, kind] of notPlain) {
  t.test(`settings that are ${kind} are refused by type, never shown`, async t => {
    const details = new RegExp(`^\`settings\` must be a plain object of names and values, got ${kind}\\.$`)
    t.throws(() => readSettings(value), { code: 'FST_PG_SCOPE_OPTIONS', details })
  })
}

t.test('a name that is no name is refused, and shown', async t => {
  for (const name of ['', ' ', 'a b', 'app.', '.tenant', 'a;b', "a'b", '1a', 'app..x', 'a\0', 'a\n']) {
    t.throws(() => readSettings({ [name]: '1' }), { code: 'FST_PG_SCOPE_OPTIONS', details: /not the name of a setting/ }, JSON.stringify(name))
  }
})

t.test('what decides about rights is not given as a setting: there is the option role', async t => {
  for (const name of ['role', 'ROLE', 'session_authorization', 'Session_Authorization', 'is_superuser']) {
    t.throws(() => readSettings({ [name]: 'x' }), { code: 'FST_PG_SCOPE_OPTIONS', details: /use the option `role`/ }, name)
  }
})

t.test('a value that is none is refused, and its content not shown', async t => {
  for (const value of [null, undefined, {}, ['secret'], NaN, Infinity, Symbol('secret'), 10n, Promise.resolve('secret')]) {
    t.throws(() => readSettings({ 'app.a': value }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`settings\.app\.a` must be a string, a finite number or a boolean, got (?!.*secret)/ })
  }
})

t.test('a zero byte in a value or a role is refused: PostgreSQL cannot take it', async t => {
  t.throws(() => readSettings({ 'app.a': 'x\0y' }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`settings\.app\.a` must not/ })
  t.throws(() => readRole('x\0y'), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`role` must not/ })
})

t.test('a role is a name, and none is not one: it would restore the rights of the login role', async t => {
  t.same({ ...readRole('reader') }, { role: 'reader' })
  t.same({ ...readRole('NONE') }, { role: 'NONE' }, 'which PostgreSQL takes for a name')
  for (const role of [null, undefined, '', 1, {}, ['reader'], 'none']) t.throws(() => readRole(role), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`role` must be the name of a role/ })
})

const request = {} as FastifyRequest

t.test('functions that return no promise are asked without one', async t => {
  const asked: string[] = []
  const ask = askEach([
    { kind: 'settings', given: () => { asked.push('plugin'); return { 'app.a': 1, 'app.b': 1 } } },
    { kind: 'settings', given: { 'app.b': 2 } },
    { kind: 'role', given: () => { asked.push('role'); return 'reader' } }
  ])
  t.same({ ...ask(request) }, { 'app.a': '1', 'app.b': '2', role: 'reader' })
  t.same(asked, ['plugin', 'role'], 'each once, in order')
})

t.test('one that returns a promise is awaited, together with the others', async t => {
  const ask = askEach([{ kind: 'settings', given: async () => ({ 'app.a': 1 }) }, { kind: 'role', given: async () => 'reader' }])
  const answer = ask(request)
  t.ok(answer instanceof Promise)
  t.same({ ...await answer }, { 'app.a': '1', role: 'reader' })
})

t.test('the wrong answer is an error, at once or when it is there', async t => {
  t.throws(() => askEach([{ kind: 'settings', given: () => undefined }])(request), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`settings\(request\)` must return a plain object .*, got undefined\.$/ })
  t.throws(() => askEach([{ kind: 'role', given: () => '' }])(request), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`role\(request\)` must return the name of a role, got an empty string\.$/ })
  await t.rejects(Promise.resolve(askEach([{ kind: 'settings', given: async () => new Map() }])(request)), { code: 'FST_PG_SCOPE_OPTIONS', details: /got a Map\.$/ })
  await t.rejects(Promise.resolve(askEach([{ kind: 'role', given: async () => undefined }])(request)), { code: 'FST_PG_SCOPE_OPTIONS', details: /got undefined\.$/ })
})

t.test('where one throws, what another promised is no unhandled rejection', async t => {
  const ask = askEach([{ kind: 'settings', given: async () => { throw new Error('later') } }, { kind: 'role', given: () => { throw new Error('now') } }])
  t.throws(() => ask(request), { message: 'now' })
  await new Promise((resolve) => setImmediate(resolve))
})

t.test('a function that is asked while it is asked is told that it must not use its own session', async t => {
  const ask: () => unknown = settingsFor(request, () => ask() as never)
  t.throws(() => ask(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /app\.db\.query\(\)/ })
  t.throws(() => ask(), { code: 'FST_PG_SCOPE_SESSION_STATE' }, 'and again the next time')
})
