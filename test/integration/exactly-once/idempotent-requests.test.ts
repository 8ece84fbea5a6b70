import t from 'tap'
import { bankCases, gate, type Bank } from './bank.ts'
import pgScope from '../../../harness/plugin.ts'
import { idempotencyTable, purgeIdempotencyKeys } from '../../../lib/idempotency/index.ts'
import { send, type HttpResponse } from '../../../harness/http-client.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
await postgres.query(idempotencyTable)
const insert = 'INSERT INTO entry (text) VALUES ($1)'
let keys = 0
const newKey = (): string => `"key-${++keys}"`

type Post = (path: string, key?: string, body?: unknown, headers?: Record<string, string>) => Promise<HttpResponse>

async function listening ({ listen }: Bank): Promise<Post> {
  const port = await listen()
  return (path, key, body = { amount: 1 }, headers = {}) =>
    send(port, { method: 'POST', path, body, headers: { ...(key !== undefined && { 'idempotency-key': key }), ...headers } })
}

test('a repeated request gets the answer of the first one, and its work is done once', {}, async (t, bank) => {
  let calls = 0
  bank.app.addHook('onRequest', async (request, reply) => { reply.header('x-request', request.id) })
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request, reply) => {
    await request.db.query(insert, [`call ${++calls}`])
    return reply.code(201).header('location', `/${calls}`).header('set-cookie', 'a=1').send({ call: calls })
  })
  const post = await listening(bank)
  const key = newKey()
  const first = await post('/', key)
  t.match(first, { status: 201, headers: { location: '/1' }, body: '{"call":1}' })
  t.notOk('idempotency-replayed' in first.headers)
  for (const same of [key, key.slice(1, -1)]) {
    const again = await post('/', same)
    t.match(again, { status: 201, headers: { location: '/1', 'idempotency-replayed': 'true', 'content-type': first.headers['content-type'] }, body: '{"call":1}' })
    t.not(again.headers['x-request'], first.headers['x-request'])
    t.notOk('set-cookie' in again.headers)
  }
  t.match(await post('/', newKey()), { status: 201, body: '{"call":2}' })
  t.match(await post('/'), { status: 201, body: '{"call":3}' }, 'without a key it is a request as any other')
  t.same(await bank.entries(), ['call 1', 'call 2', 'call 3'])
})

test('HTTP/2: a repeated request gets the answer of the first one', { fastify: { http2: true } as object }, async (t, { app, listen, entries }) => {
  app.post('/', { config: { db: { idempotency: true } } }, async (request, reply) => {
    await request.db.query(insert, ['once'])
    return reply.code(201).send('done')
  })
  const port = await listen()
  const key = newKey()
  for (const replayed of [undefined, 'true']) {
    const { status, headers, body } = await openHttp2Request(port, { body: {}, headers: { 'idempotency-key': key } }).response
    t.same([status, headers['idempotency-replayed'], body], [201, replayed, 'done'])
  }
  t.same(await entries(), ['once'])
})

const bodies: Record<string, [unknown, string]> = {
  'a Buffer': [Buffer.from([0, 255, 10]), 'application/octet-stream'],
  'a string': ['grüße', 'text/plain; charset=utf-8'],
  'an empty string': ['', 'text/plain; charset=utf-8'],
  nothing: [undefined, ''],
  null: [null, '']
}
for (const [kind, [body, type]] of Object.entries(bodies)) {
  test(`an answer that is ${kind} is kept as it is`, {}, async (t, bank) => {
    bank.app.post('/', { config: { db: { idempotency: true } } }, async (request, reply) => {
      await request.db.query(insert, ['once'])
      return reply.code(body === null ? 204 : 200).send(body)
    })
    const post = await listening(bank)
    const key = newKey()
    const [first, again] = [await post('/', key), await post('/', key)]
    t.same([again.status, again.body, again.headers['content-type']], [first.status, first.body, first.headers['content-type']])
    t.equal(again.headers['content-type'] ?? '', type)
    t.equal(again.headers['idempotency-replayed'], 'true')
    t.same(await bank.entries(), ['once'])
  })
}

test('an answer that cannot be kept is an error, and nothing is saved: a stream, rows, more than a MiB', {}, async (t, bank) => {
  bank.app.post('/rows', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    return request.db.stream('SELECT 1 AS one')
  })
  bank.app.post('/response', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    return new Response('x')
  })
  bank.app.post('/large', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    return 'x'.repeat(1048577)
  })
  const post = await listening(bank)
  for (const path of ['/rows', '/response', '/large']) t.match(await post(path, newKey()), { status: 500, body: /FST_PG_SCOPE_IDEMPOTENCY_ANSWER/ }, path)
  t.same(await bank.entries(), [])
})

test('a rolled-back request stores nothing and may be repeated', {}, async (t, bank) => {
  let calls = 0
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request, reply) => {
    await request.db.query(insert, [`call ${++calls}`])
    if (calls === 1) throw new Error('not yet')
    if (calls === 2) return reply.code(422).send('no')
    return 'done'
  })
  const post = await listening(bank)
  const key = newKey()
  t.same([(await post('/', key)).status, (await post('/', key)).status, (await post('/', key)).status], [500, 422, 200])
  t.equal((await post('/', key)).headers['idempotency-replayed'], 'true')
  t.same(await bank.entries(), ['call 3'])
})

test('a missing or malformed key is a 400, before the handler', {}, async (t, bank) => {
  let calls = 0
  bank.app.post('/', { config: { db: { idempotency: { required: true, header: 'X-Key' } } } }, async (request) => {
    calls++
    await request.db.query('SELECT 1')
    return 'done'
  })
  const post = await listening(bank)
  for (const key of [undefined, '', '""', '"a', 'a b', 'x'.repeat(256)]) {
    t.match(await post('/', undefined, {}, key === undefined ? {} : { 'x-key': key }), { status: 400, body: /FST_PG_SCOPE_IDEMPOTENCY_KEY/ }, `${key}`)
  }
  t.equal(calls, 0)
  t.equal((await post('/', undefined, {}, { 'x-key': '"a \\"b\\""' })).status, 200)
})

test('another payload, or another route, under the same key is a 422', {}, async (t, bank) => {
  for (const path of ['/a', '/b']) {
    bank.app.post(path, { config: { db: { idempotency: true } } }, async (request) => {
      await request.db.query(insert, [path])
      return 'done'
    })
  }
  const post = await listening(bank)
  const key = newKey()
  t.equal((await post('/a', key, { amount: 1 })).status, 200)
  t.match(await post('/a', key, { amount: 2 }), { status: 422, body: /FST_PG_SCOPE_IDEMPOTENCY_MISMATCH/ })
  t.equal((await post('/b', key, { amount: 1 })).status, 422)
  t.equal((await post('/a', key, { amount: 1 })).headers['idempotency-replayed'], 'true')
  t.same(await bank.entries(), ['/a'])
})

test('a key belongs to its sender, which is known before', {}, async (t, bank) => {
  bank.app.addHook('preHandler', async (request, reply) => {
    if (request.headers['x-user'] === undefined) return reply.code(401).send('who?')
  })
  const idempotency = { keyOf: async (request: { headers: Record<string, unknown> }) => String(request.headers['x-user']), fingerprint: () => 'same' }
  bank.app.post('/', { config: { db: { idempotency } } }, async (request) => {
    await request.db.query(insert, [request.headers['x-user']])
    return request.headers['x-user']
  })
  const post = await listening(bank)
  const key = newKey()
  t.equal((await post('/', key)).status, 401)
  for (const user of ['ann', 'bob', 'ann']) t.match(await post('/', key, { user }, { 'x-user': user }), { status: 200, body: user })
  t.equal((await post('/', key)).status, 401)
  t.same(await bank.entries(), ['ann', 'bob'])
})

for (const isolation of ['read committed', 'serializable'] as const) {
  test(`${isolation}: requests with the same key at once wait for the first, and get its answer`, {}, async (t, bank) => {
    const go = gate()
    let calls = 0
    bank.app.post('/', { config: { db: { isolation, idempotency: true } } }, async (request) => {
      calls++
      await request.db.query(insert, ['once'])
      await go.opened
      return { calls }
    })
    const post = await listening(bank)
    const key = newKey()
    const responses = [1, 2, 3, 4].map(() => post('/', key))
    await waitFor(async () => (await postgres.activity()).filter(({ wait_event_type: type }) => type === 'Lock').length === 3)
    go.open()
    for (const response of await Promise.all(responses)) t.match(response, { status: 200, body: '{"calls":1}' })
    t.same(await bank.entries(), ['once'])
  })
}

test('keys that only have the same hash: one request waits for the other, and both are done', {}, async (t, bank) => {
  const [started, go] = [gate(), gate()]
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request) => {
    const { text } = request.body as { text: string }
    started.open()
    if (text === 'first') await go.opened
    await request.db.query(insert, [text])
    return text
  })
  const post = await listening(bank)
  const first = post('/', '"key-126wu"', { text: 'first' })
  await started.opened
  const second = post('/', '"key-1dwfa"', { text: 'second' })
  await waitFor(async () => (await postgres.activity()).some(({ wait_event_type: type }) => type === 'Lock'))
  go.open()
  t.match(await first, { status: 200, body: 'first' })
  t.match(await second, { status: 200, body: 'second' })
  t.same(await bank.entries(), ['first', 'second'])
})

test('a request that waits longer than `wait` gets a 409; the lock_timeout of the handler is its own', {}, async (t, bank) => {
  const [started, go] = [gate(), gate()]
  bank.app.post('/', { config: { db: { lockTimeout: 12345, idempotency: { wait: 100 } } } }, async (request) => {
    started.open()
    await go.opened
    return (await request.db.query('SHOW lock_timeout')).rows[0].lock_timeout
  })
  const post = await listening(bank)
  const key = newKey()
  const first = post('/', key)
  await started.opened
  t.match(await post('/', key), { status: 409, headers: { 'retry-after': '1' }, body: /FST_PG_SCOPE_IDEMPOTENCY_CONFLICT/ })
  go.open()
  t.match(await first, { status: 200, body: '12345ms' })
})

test('after COMMIT_UNKNOWN the repeated request gets the answer, if its work is saved', { register: false }, async (t, bank) => {
  const proxy = await startPgProxy(t, postgres)
  const connectionString = proxy.connectionString(postgres.connectionString)
  await bank.app.register(pgScope, { ...bank.plugin, connectionString })
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['once'])
    return 'done'
  })
  const post = await listening(bank)
  for (const after of [true, false]) {
    const key = newKey()
    proxy.cutOn(/^commit$/i, { after })
    t.match(await post('/', key), { status: 500, body: /FST_PG_SCOPE_COMMIT_UNKNOWN/ })
    t.match(await post('/', key), { status: 200, body: 'done', ...(after && { headers: { 'idempotency-replayed': 'true' } }) })
  }
  t.same(await bank.entries(), ['once', 'once'])
})

test('the key costs one round trip before the handler, and the answer none at the end', { register: false }, async (t, bank) => {
  const proxy = await startPgProxy(t, postgres)
  const connectionString = proxy.connectionString(postgres.connectionString)
  await bank.app.register(pgScope, { ...bank.plugin, connectionString })
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['x'])
    return 'done'
  })
  const post = await listening(bank)
  for (let i = 0; i < 3; i++) await post('/', newKey())
  proxy.reset()
  await post('/', newKey())
  if (proxy.connections === 0) t.equal(proxy.roundTrips, 3, 'the key, the handler\'s statement, COMMIT')
})

test('with retry: each attempt has the key, and one answer is kept', {}, async (t, bank) => {
  bank.app.post('/', { config: { db: { idempotency: true, retry: { attempts: 3, minDelay: 1 } } } }, async (request, reply) => {
    const { attempt } = request.db
    await request.db.query(insert, [`attempt ${attempt}`])
    if (attempt < 3) await request.db.query('DO $$ BEGIN RAISE EXCEPTION \'x\' USING ERRCODE = \'40001\'; END $$')
    return reply.code(201).send({ attempt })
  })
  const post = await listening(bank)
  const key = newKey()
  t.match(await post('/', key), { status: 201, body: '{"attempt":3}' })
  t.match(await post('/', key), { status: 201, headers: { 'idempotency-replayed': 'true' }, body: '{"attempt":3}' })
  t.same(await bank.entries(), ['attempt 3'])
})

test('hooks that change the answer change a repeated one in the same way, once', {}, async (t, bank) => {
  bank.app.addHook('onSend', async (_request, reply, payload) => {
    reply.header('x-length', String(payload).length)
    return `<${String(payload)}>`
  })
  bank.app.post('/', { config: { db: { idempotency: true } } }, async (request) => {
    await request.db.query(insert, ['once'])
    return 'done'
  })
  const post = await listening(bank)
  const key = newKey()
  const [first, again] = [await post('/', key), await post('/', key)]
  t.equal(first.body, '<done>')
  t.same([again.body, again.headers['x-length']], [first.body, first.headers['x-length']])
})

test('commit() and rollback() are refused: key, work and answer are one', {}, async (t, bank) => {
  for (const name of ['commit', 'rollback'] as const) {
    bank.app.post(`/${name}`, { config: { db: { idempotency: true } } }, async (request) => {
      await request.db.query(insert, ['lost'])
      await request.db[name]()
      return 'done'
    })
  }
  const post = await listening(bank)
  for (const name of ['commit', 'rollback']) t.match(await post(`/${name}`, newKey()), { status: 500, body: /FST_PG_SCOPE_SESSION_STATE/ })
  t.same(await bank.entries(), [])
})

test('an expired key is a new one, and expired answers can be purged', {}, async (t, bank) => {
  bank.app.post('/', { config: { db: { idempotency: { ttl: 1 } } } }, async (request) => {
    await request.db.query(insert, ['again'])
    return 'done'
  })
  const post = await listening(bank)
  const key = newKey()
  for (let i = 0; i < 2; i++) {
    t.notOk('idempotency-replayed' in (await post('/', key, { i })).headers)
    await waitFor(async () => (await postgres.query('SELECT 1 FROM pg_scope_idempotency WHERE expires < now()')).rows.length === 1)
  }
  t.same(await bank.entries(), ['again', 'again'])
  t.equal(await purgeIdempotencyKeys(bank.app.db), 1)
  t.equal(await purgeIdempotencyKeys(bank.app.db), 0)
})

test('a route that cannot be idempotent stops the boot', {}, async (t, { app }) => {
  for (const own of [{ mode: 'autocommit' }, { commitOn: 'response' }, { readOnly: true }, { onAbort: 'commit' }] as const) {
    t.throws(() => app.post(`/${Object.keys(own)[0]}`, { config: { db: { idempotency: true, ...own } } }, async () => {}),
      { code: 'FST_PG_SCOPE_OPTIONS', details: /`config\.db\.idempotency` does not work with/ })
  }
  t.throws(() => app.post('/ttl', { config: { db: { idempotency: { ttl: 0 } } } }, async () => {}), { code: 'FST_PG_SCOPE_OPTIONS' })
})
