import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { bankCases, gate, transfer } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
const serializable = { isolation: 'serializable', retry: { attempts: 50, minDelay: 5, maxDelay: 200 } } as const
await prepareConflicts(postgres)

const protocols = {
  'HTTP/1.1': { fastify: {}, request: (port: number, path: string) => send(port, { method: 'POST', path }) },
  'HTTP/2': { fastify: { http2: true } as object, request: (port: number, path: string) => openHttp2Request(port, { method: 'POST', path }).response }
}

for (const [protocol, { fastify, request }] of Object.entries(protocols)) {
  test(`${protocol}: 20 concurrent serializable transfers on 4 accounts all succeed, and the sum holds`, { fastify }, async (t, { app, listen }) => {
    app.post<{ Params: { n: number } }>('/transfer/:n', { config: { db: serializable } }, async (request, reply) => {
      const n = Number(request.params.n)
      await transfer(request.db, 1 + n % 4, 1 + (n + 1 + n % 3) % 4, n)
      return reply.code(201).send({ attempt: request.db.attempt })
    })
    const port = await listen()
    const responses = await Promise.all(Array.from({ length: 20 }, (_, n) => request(port, `/transfer/${n}`)))
    t.same(responses.map(({ status }) => status), Array(20).fill(201))
    const { rows } = await postgres.query('SELECT sum(balance)::int AS sum, sum(abs(balance - 100))::int AS moved FROM account')
    t.equal(rows[0].sum, 400)
    const attempts = responses.reduce((sum, { body }) => sum + JSON.parse(body).attempt, 0)
    t.equal(app.db.stats().counters.retried, attempts - 20)
    t.equal(app.db.stats().counters.committed, 20)
  })

  test(`${protocol}: two routes that deadlock end in two successes`, { fastify }, async (t, { app, listen }) => {
    const both = { 1: gate(), 2: gate() }
    app.post<{ Params: { id: '1' | '2' } }>('/:id', { config: { db: { retry: 5 } } }, async (request) => {
      const { id } = request.params
      const add = (id: number) => request.db.query('UPDATE account SET balance = balance + 1 WHERE id = $1', [id])
      await add(Number(id))
      both[id].open()
      await Promise.all([both[1].opened, both[2].opened])
      await add(3 - Number(id))
      return { attempt: request.db.attempt }
    })
    const port = await listen()
    const responses = await Promise.all(['/1', '/2'].map((path) => request(port, path)))
    t.same(responses.map(({ status }) => status), [200, 200])
    t.same(responses.map(({ body }) => JSON.parse(body).attempt).sort(), [1, 2])
    t.same((await postgres.query('SELECT balance FROM account WHERE id < 3')).rows, [{ balance: 102 }, { balance: 102 }])
  })
}

test('write skew is prevented: of two doctors that leave at once one stays', {}, async (t, { app, listen }) => {
  const both = { alice: gate(), bob: gate() }
  app.post<{ Params: { name: 'alice' | 'bob' } }>('/:name', { config: { db: serializable } }, async (request, reply) => {
    const { name } = request.params
    const { rows } = await request.db.query('SELECT count(*)::int AS n FROM doctor WHERE on_call')
    both[name].open()
    await Promise.all([both.alice.opened, both.bob.opened])
    if (rows[0].n < 2) return reply.code(409).send('somebody has to stay')
    await request.db.query('UPDATE doctor SET on_call = false WHERE name = $1', [name])
    return 'left'
  })
  const port = await listen()
  const responses = await Promise.all(['/alice', '/bob'].map((path) => send(port, { method: 'POST', path })))
  t.same(responses.map(({ status }) => status).sort(), [200, 409])
  t.same((await postgres.query('SELECT count(*)::int AS n FROM doctor WHERE on_call')).rows, [{ n: 1 }])
})

type Handler = (request: FastifyRequest, reply: FastifyReply, fail: () => Promise<unknown>) => unknown

/** Ways to answer, of which each may meet a conflict in its first attempt. */
const styles: Record<string, Handler> = {
  'returns a value': async (_request, _reply, fail) => { await fail(); return { ok: true } },
  'returns reply.send()': async (_request, reply, fail) => { await fail(); return reply.code(201).send({ ok: true }) },
  'calls reply.send() and returns nothing': async (_request, reply, fail) => { await fail(); reply.send({ ok: true }) },
  'is no async function': (_request, reply, fail) => { fail().then(() => reply.send({ ok: true }), (error) => reply.send(error)) },
  'returns a promise of another library\'s error': async (_request, _reply, fail) => {
    await fail().catch((cause) => { throw new Error('wrapped', { cause: new Error('twice', { cause }) }) })
    return { ok: true }
  },
  'replaces the error': async (_request, _reply, fail) => {
    await fail().catch(() => { throw new Error('no cause') })
    return { ok: true }
  },
  'swallows the error': async (_request, _reply, fail) => { await fail().catch(() => {}); return { ok: true } },
  'does not await the statement': async (_request, _reply, fail) => { fail(); return { ok: true } }
}

for (const [style, handler] of Object.entries(styles)) {
  test(`a handler that ${style} runs again after a statement's conflict`, {}, async (t, { app, listen, entries }) => {
    const attempts: number[] = []
    app.setErrorHandler((error, _request, reply) => { reply.code(418).send(String(error)) })
    app.post('/', { config: { db: { retry: { attempts: 3, minDelay: 1 } } } }, (request, reply) => {
      attempts.push(request.db.attempt)
      return handler(request, reply, () => {
        const { db } = request
        const inserted = db.query(insert, [`attempt ${db.attempt}`])
        return db.attempt < 3 ? db.query(conflict) : inserted
      })
    })
    const { status, body } = await send(await listen(), { method: 'POST' })
    t.match([status, body], [style.includes('reply.send()') && style.startsWith('returns') ? 201 : 200, '{"ok":true}'])
    t.same(attempts, [1, 2, 3])
    t.same(await entries(), ['attempt 3'])
    t.equal(app.db.stats().counters.retried, 2)
  })

  test(`a handler that ${style} runs again after COMMIT's conflict`, {}, async (t, { app, listen, entries }) => {
    const attempts: number[] = []
    app.post('/', { config: { db: { retry: { attempts: 3, minDelay: 1 } } } }, (request, reply) => {
      const { db } = request
      attempts.push(db.attempt)
      return handler(request, reply, () => {
        if (db.attempt < 3) db.query(late)
        return db.query(insert, [`attempt ${db.attempt}`])
      })
    })
    const { body } = await send(await listen(), { method: 'POST' })
    t.equal(body, '{"ok":true}')
    t.same(attempts, [1, 2, 3])
    t.same(await entries(), ['attempt 3'])
  })
}

for (const where of ['statement', 'COMMIT'] as const) {
  test(`status, headers and trailers of an attempt that ${where} failed are undone`, {}, async (t, { app, listen }) => {
    app.addHook('onRequest', async (_request, reply) => { reply.header('x-before', '1').header('set-cookie', 'a=1') })
    app.post('/', { config: { db: { retry: { attempts: 2, minDelay: 1 } } } }, async (request, reply) => {
      const { db } = request
      if (db.attempt === 2) return reply.send({ attempt: 2 })
      reply.code(202).header('x-failed', 'yes').header('set-cookie', 'b=2').removeHeader('x-before').serializer(() => 'failed')
      reply.raw.setHeader('x-raw', 'yes')
      await db.query(where === 'COMMIT' ? late : conflict)
      await db.query(insert, ['lost'])
      return reply.send({ attempt: 1 })
    })
    const { status, headers, body } = await send(await listen(), { method: 'POST' })
    t.match([status, body], [200, '{"attempt":2}'])
    t.match(headers, { 'x-before': '1', 'content-type': /json/ })
    t.notOk('x-failed' in headers || 'x-raw' in headers)
    t.equal(String(headers['set-cookie']), 'a=1')
  })

  test(`after a failed ${where}: afterCommit belongs to the attempt that was committed, afterRollback undoes the others`, {}, async (t, { app, listen }) => {
    const calls: string[] = []
    app.addHook('preHandler', async (request) => {
      const { db } = request
      db.afterCommit(() => { calls.push(`hook: committed ${db.attempt}`) })
    })
    app.post('/', { config: { db: { retry: { attempts: 2, minDelay: 1 } } } }, async (request) => {
      const { attempt } = request.db
      request.db.afterCommit(() => { calls.push(`committed ${attempt}`) })
      request.db.afterRollback(() => { calls.push(`rolled back ${attempt}`) })
      if (attempt === 1) await request.db.query(where === 'COMMIT' ? late : conflict)
      await request.db.query(insert, ['x'])
      return 'ok'
    })
    t.equal((await send(await listen(), { method: 'POST' })).status, 200)
    t.same(calls, ['rolled back 1', 'hook: committed 2', 'committed 2'])
  })
}

test('what a hook before the handler keeps of the session works in every attempt', {}, async (t, { app, listen, entries }) => {
  app.decorateRequest('save')
  app.addHook('preHandler', async (request) => {
    const { db } = request
    ;(request as unknown as { save: unknown }).save = (text: string) => db.query(insert, [`${text} ${db.attempt}`])
  })
  app.post('/', { config: { db: { retry: { attempts: 2, minDelay: 1 } } } }, async (request) => {
    await (request as unknown as { save (text: string): Promise<unknown> }).save('kept')
    if (request.db.attempt === 1) await request.db.query(conflict)
    return 'ok'
  })
  t.equal((await send(await listen(), { method: 'POST' })).status, 200)
  t.same(await entries(), ['kept 2'])
})

test('what a failed attempt has left running finds its session closed', {}, async (t, { app, listen, entries }) => {
  const goOn = gate()
  const stray: unknown[] = []
  app.post('/', { config: { db: { retry: { attempts: 2, minDelay: 1 } } } }, async (request) => {
    const { db } = request
    if (db.attempt === 2) {
      goOn.open()
      await waitFor(() => stray.length > 0)
      await db.query(insert, ['second'])
      return 'ok'
    }
    goOn.opened.then(() => db.query(insert, ['stray'])).catch((error) => stray.push(error))
    t.notOk(db.signal.aborted)
    await db.query(conflict)
  })
  t.equal((await send(await listen(), { method: 'POST' })).status, 200)
  t.match(stray, [{ code: 'FST_PG_SCOPE_SESSION_CLOSED', details: /attempt/ }])
  t.same(await entries(), ['second'])
})

test('after the last attempt the error of the statement is sent, with the number of the attempt', {}, async (t, { app, listen, log }) => {
  let calls = 0
  app.post('/', { config: { db: { retry: { attempts: 3, minDelay: 1 } } } }, async (request) => {
    calls++
    await request.db.query(conflict)
  })
  const { status, headers, body } = await send(await listen(), { method: 'POST' })
  t.match([status, body, headers], [503, /40001/, { 'retry-after': '1' }])
  t.equal(calls, 3)
  t.match(log.filter(({ err }) => err !== undefined), [{ err: { attempt: 3, notRetried: /last of 3 attempts/ } }])
  t.match(log.filter(({ delay }) => delay !== undefined), [{ attempt: 1, sqlstate: '40001', statement: conflict }, { attempt: 2 }])
})

test('after the last attempt the error of COMMIT is sent, with the number of the attempt', {}, async (t, { app, listen, log }) => {
  app.post('/', { config: { db: { retry: { attempts: 2, minDelay: 1 } } } }, async (request, reply) => {
    await request.db.query(late)
    await request.db.query(insert, ['lost'])
    return reply.code(201).header('location', '/1').send('ok')
  })
  const { status, headers, body } = await send(await listen(), { method: 'POST' })
  t.match([status, body], [503, /FST_PG_SCOPE_SERIALIZATION_FAILURE/])
  t.notOk('location' in headers)
  t.match(log.filter(({ err }) => err !== undefined), [{ err: { attempt: 2, notRetried: /last of 2 attempts/ } }])
})

test('without `retry` nothing is run again, and a route turns the plugin\'s off', { plugin: { retry: 3 } }, async (t, { app, listen }) => {
  const calls: string[] = []
  app.post('/on', async (request) => { calls.push(request.url); await request.db.query(conflict) })
  app.post('/off', { config: { db: { retry: false } } }, async (request) => { calls.push(request.url); await request.db.query(conflict) })
  app.post('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => { calls.push(request.url); await request.db.query(conflict) })
  app.post('/response', { config: { db: { commitOn: 'response' } } }, async (request) => { calls.push(request.url); await request.db.query(conflict) })
  const port = await listen()
  for (const path of ['/on', '/off', '/autocommit', '/response']) t.equal((await send(port, { method: 'POST', path })).status, 503)
  t.same(calls, ['/on', '/on', '/on', '/off', '/autocommit', '/response'])
})

test('any other error is sent at once', {}, async (t, { app, listen }) => {
  let calls = 0
  app.post('/', { config: { db: { retry: 3 } } }, async (request) => {
    calls++
    await request.db.query('SELECT 1/0')
  })
  t.equal((await send(await listen(), { method: 'POST' })).status, 500)
  t.equal(calls, 1)
})

test('an error status that the handler sends itself is its answer', {}, async (t, { app, listen }) => {
  let calls = 0
  app.post('/', { config: { db: { retry: 3 } } }, async (request, reply) => {
    calls++
    await request.db.query(conflict).catch(() => {})
    return reply.code(409).send('busy')
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 409, body: 'busy' })
  t.equal(calls, 1)
})

/** What makes another attempt impossible, and what the error says of it. */
const obstacles: Record<string, [RegExp, (app: Parameters<Parameters<typeof test>[2]>[1]['app']) => unknown, Handler]> = {
  'a statement ran before the handler': [/before the handler/, (app) => app.addHook('preHandler', async (request) => { await request.db.query('SELECT 1') }), async (_request, _reply, fail) => { await fail() }],
  'commit() has saved a part': [/commit\(\)/, () => {}, async (request, _reply, fail) => {
    await request.db.query(insert, ['saved'])
    await request.db.commit()
    await fail()
  }],
  'a part of the response was sent': [/already sent/, () => {}, async (_request, reply, fail) => {
    reply.raw.write('x')
    await fail().finally(() => setImmediate(() => reply.raw.end()))
  }]
}

for (const [obstacle, [words, prepare, handler]] of Object.entries(obstacles)) {
  test(`when ${obstacle}, the handler does not run again, and the error says why`, {}, async (t, { app, listen, log }) => {
    let calls = 0
    prepare(app)
    app.post('/', { config: { db: { retry: 3 } } }, (request, reply) => {
      calls++
      return handler(request, reply, () => request.db.query(conflict))
    })
    await send(await listen(), { method: 'POST' })
    t.equal(calls, 1)
    await waitFor(() => log.some(({ err }) => words.test(err?.notRetried ?? '')))
    t.equal(app.db.stats().counters.retried, 0)
  })
}

test('a stream as the response: COMMIT\'s conflict is not repeated, and the error says why', {}, async (t, { app, listen, log }) => {
  let calls = 0
  app.post('/', { config: { db: { retry: 3 } } }, async (request, reply) => {
    calls++
    await request.db.query(late)
    await request.db.query(insert, ['lost'])
    return reply.send(request.db.stream('SELECT 1 AS one'))
  })
  t.equal((await send(await listen(), { method: 'POST' })).status, 503)
  t.equal(calls, 1)
  t.ok(log.some(({ err }) => /SERIALIZATION_FAILURE/.test(err?.code ?? '')))
})

const slow = { attempts: 3, minDelay: 60000, maxDelay: 60000 }

test('a hang-up during the delay ends it', {}, async (t, { app, listen }) => {
  const failed = gate()
  let calls = 0
  app.post('/', { config: { db: { retry: slow } } }, async (request) => {
    calls++
    await request.db.query(conflict).catch((error) => { failed.open(); throw error })
  })
  const port = await listen()
  await hangUp(port, { method: 'POST' }, { after: waitForLog(app, failed.opened) })
  await waitFor(() => app.db.stats().inUse === 0)
  await sleep(20)
  t.equal(calls, 1)
})

test('handlerTimeout during the delay ends it', {}, async (t, { app, listen, entries }) => {
  app.post('/', { handlerTimeout: 300, config: { db: { retry: slow } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query(conflict)
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 503, body: /FST_ERR_HANDLER_TIMEOUT/ })
  t.same(await entries(), [])
})

test('handlerTimeout during the delay after COMMIT ends it', {}, async (t, { app, listen, entries }) => {
  app.post('/', { handlerTimeout: 300, config: { db: { retry: slow } } }, async (request) => {
    await request.db.query(late)
    await request.db.query(insert, ['lost'])
    return 'ok'
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 503, body: /FST_ERR_HANDLER_TIMEOUT/ })
  t.same(await entries(), [])
})

test('close() during the delay ends it: the request is answered', {}, async (t, { app, listen, log }) => {
  app.post('/', { config: { db: { retry: slow } } }, async (request) => { await request.db.query(conflict) })
  const port = await listen()
  const response = send(port, { method: 'POST' })
  await waitFor(() => log.some(({ delay }) => delay !== undefined))
  await app.close()
  t.equal((await response).status, 503)
  t.ok(log.some(({ err }) => err?.notRetried === 'the app is closing'))
})

test('a HEAD request runs its GET handler with the same retries', {}, async (t, { app, listen }) => {
  const attempts: number[] = []
  app.get('/', { config: { db: { retry: { attempts: 3, minDelay: 1 } } } }, async (request) => {
    attempts.push(request.db.attempt)
    if (request.db.attempt < 2) await request.db.query(conflict)
    return 'ok'
  })
  t.equal((await send(await listen(), { method: 'HEAD' })).status, 200)
  t.same(attempts, [1, 2])
})

async function waitForLog (app: { db: { stats (): { inUse: number } } }, failed: Promise<void>): Promise<void> {
  await failed
  await waitFor(() => app.db.stats().inUse === 0)
}
