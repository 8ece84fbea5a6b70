import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { byStrategy } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('a success is committed before the client reads it', {}, async (t, { app, listen, saved }) => {
  app.post<{ Body: { text: string } }>('/', async (request, reply) => {
    await request.db.query(insert, [request.body.text])
    return reply.code(201).send({ ok: true })
  })
  const port = await listen()
  for (const text of ['a', 'b', 'c']) {
    const response = await send(port, { body: { text } })
    t.match(response, { status: 201, body: '{"ok":true}', complete: true })
    t.ok((await saved()).includes(text), 'another connection sees the row at once')
  }
  t.equal(app.db.stats().counters.opened, byStrategy({ queue: 1, null: 3 }))
})

test('a route that does not touch the session opens no connection', {}, async (t, { app, listen }) => {
  app.get('/', async () => 'hello')
  t.equal((await send(await listen())).body, 'hello')
  t.match(app.db.stats(), { open: 0, counters: { acquired: 0, opened: 0 } })
})

test('an answer without a statement in its session sends nothing to the server', {}, async (t, { app, listen }) => {
  app.get('/', async (request) => request.db.state)
  t.equal((await send(await listen())).body, 'idle')
  t.match(app.db.stats().counters, { acquired: 0, opened: 0 })
})

test('a throw rolls back', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    throw new Error('changed my mind')
  })
  t.match(await send(await listen()), { status: 500, body: /changed my mind/ })
  t.same(await saved(), [])
  t.match(app.db.stats().counters, { committed: 0, rolledBack: 1 })
})

test('a SQL error that leaves the handler is its answer, and rolls back', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0')
  })
  t.match(await send(await listen()), { status: 500, body: /division by zero/ })
  t.same(await saved(), [])
  t.equal(log.filter(({ err }) => err?.code === '22012').length, 1, 'logged once')
})

test('an error status that is sent without a throw rolls back', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.code(422).send({ error: 'no' })
  })
  t.match(await send(await listen()), { status: 422, body: '{"error":"no"}' })
  t.same(await saved(), [])
})

test('a redirect and an empty answer commit', {}, async (t, { app, listen, saved }) => {
  app.get('/redirect', async (request, reply) => {
    await request.db.query(insert, ['redirect'])
    return reply.redirect('/elsewhere')
  })
  app.get('/empty', async (request, reply) => {
    await request.db.query(insert, ['empty'])
    return reply.code(204).send()
  })
  app.get('/callback', (request, reply) => {
    request.db.query(insert, ['callback']).then(() => reply.send('done'))
  })
  const port = await listen()
  t.equal((await send(port, { path: '/redirect' })).status, 302)
  t.equal((await send(port, { path: '/empty' })).status, 204)
  t.equal((await send(port, { path: '/callback' })).body, 'done')
  t.same(await saved(), ['callback', 'empty', 'redirect'])
})

test('an error that a custom error handler answers with 200 rolls back', {}, async (t, { app, listen, saved }) => {
  app.setErrorHandler((error, _request, reply) => reply.code(200).send({ excuse: (error as Error).message }))
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    throw new Error('hidden')
  })
  app.get('/sql', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0')
  })
  const port = await listen()
  t.match(await send(port), { status: 200, body: '{"excuse":"hidden"}' })
  t.match(await send(port, { path: '/sql' }), { status: 200, body: /division by zero/ })
  t.same(await saved(), [])
})

test('an error handler that uses the session reads before it rolls back', {}, async (t, { app, listen, saved }) => {
  app.setErrorHandler(async (_error, request, reply) => {
    const { rows } = await request.db.query('SELECT text FROM note')
    return reply.code(400).send(rows)
  })
  app.get('/', async (request) => {
    await request.db.query(insert, ['mine'])
    throw new Error('after a good statement')
  })
  t.match(await send(await listen()), { status: 400, body: '[{"text":"mine"}]' })
  t.same(await saved(), [])
})

test('an error from before the session was touched rolls back what an error handler does and answers with 200', {}, async (t, { app, listen, saved }) => {
  app.setErrorHandler(async (_error, request, reply) => {
    await request.db.query(insert, ['of the error handler'])
    return reply.code(200).send('excused')
  })
  app.get('/', async () => { throw new Error('before anything was asked') })
  t.match(await send(await listen()), { status: 200, body: 'excused' })
  t.same(await saved(), [])
})

test('a success after a caught SQL error is not sent', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0').catch(() => {})
    return { ok: true }
  })
  const { status, body } = await send(await listen())
  t.equal(status, 500)
  t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await saved(), [])
  const logged = log.filter(({ err }) => err?.code === 'FST_PG_SCOPE_TRANSACTION_ABORTED')
  t.equal(logged.length, 1)
  t.match(logged[0]!.err!.stack, /division by zero/, 'the log names the statement\'s own error')
})

test('an error status after a caught SQL error is sent as it is', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0').catch(() => {})
    return reply.code(409).send('conflict')
  })
  t.match(await send(await listen()), { status: 409, body: 'conflict' })
  t.same(await saved(), [])
})

test('a SQL error inside transaction(fn) may be caught, and the rest is committed', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    await request.db.transaction(async (db) => {
      await db.query(insert, ['lost'])
      await db.query('SELECT 1 / 0')
    }).catch(() => {})
    return { ok: true }
  })
  t.equal((await send(await listen())).status, 200)
  t.same(await saved(), ['kept'])
})

test('rollback() by hand after a failure makes room for a success', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0').catch(() => {})
    await request.db.rollback()
    await request.db.query(insert, ['kept'])
    return { ok: true }
  })
  t.equal((await send(await listen())).status, 200)
  t.same(await saved(), ['kept'])
})

test('what commit() saved by hand stays, and a later throw rolls back the rest', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    await request.db.commit()
    await request.db.query(insert, ['lost'])
    throw new Error('too late')
  })
  t.equal((await send(await listen())).status, 500)
  t.same(await saved(), ['kept'])
})

test('afterCommit runs before the client has its answer, and after an error afterRollback instead', {}, async (t, { app, listen }) => {
  const ran: string[] = []
  app.get<{ Querystring: { fail?: string } }>('/', async (request) => {
    request.db.afterCommit(() => { ran.push('commit') })
    request.db.afterRollback(() => { ran.push('rollback') })
    await request.db.query(insert, ['x'])
    if (request.query.fail) throw new Error('no')
    return 'done'
  })
  const port = await listen()
  await send(port)
  t.same(ran.splice(0), ['commit'])
  await send(port, { path: '/?fail=1' })
  await waitFor(() => ran.length > 0) // an error does not wait for ROLLBACK
  t.same(ran, ['rollback'])
})
