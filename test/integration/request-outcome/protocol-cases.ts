import { Readable, Transform } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import { type Case, type CaseOptions, gate, type LogLine, outcomeCases } from './outcome-cases.ts'
import type { HttpRequest, HttpResponse } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

/** A request by which a protocol's ends are tried. */
export interface Attempt {
  response: Promise<HttpResponse>
  read: () => HttpResponse
  leave: () => void
  /** Reads no more of the body. */
  pause: () => void
}

export interface Protocol {
  name: string
  fastify?: CaseOptions['fastify']
  open: (port: number, request: HttpRequest) => Attempt
  /** Only the cases in which the client leaves. */
  onlyLeaving?: boolean
}

const insert = 'INSERT INTO note VALUES ($1)'
const twice = 'INSERT INTO unique_note VALUES ($1), ($1)'
const series = (n: number) => `SELECT n, repeat('x', 100) AS filler FROM generate_series(1, ${n}) AS n`
const lines = () => new Transform({ writableObjectMode: true, transform (row, _encoding, done) { done(null, `${String(row.n).padStart(9)}\n`) } })
const hijacked = (log: LogLine[]) => log.filter(({ msg }) => msg.includes('hijacked')).length
const errors = (log: LogLine[]) => log.filter(({ level }) => level >= 50)

/** Every row of docs/how-a-request-ends.md, over one protocol. */
export async function requestsEndAlike (file: Test, kind: Protocol): Promise<void> {
  const { name: protocol, fastify, open, onlyLeaving = false } = kind
  const { test: anyTest } = await outcomeCases(file)
  type Body = (t: Test, parts: Case & { port: number, get: (path?: string) => Promise<HttpResponse> }) => Promise<void>
  const test = (name: string, options: CaseOptions, routes: (parts: Case) => void, body: Body) => {
    if (onlyLeaving && !/client.* (leaves|left)/.test(name)) return
    anyTest(`${protocol}: ${name}`, { ...options, fastify: { ...fastify, ...options.fastify } as never }, async (t, parts) => {
      routes(parts)
      const port = await parts.listen()
      await body(t, { ...parts, port, get: (path = '/') => open(port, { path }).response })
    })
  }

  test('a success is committed when it is read, an error is rolled back', {}, ({ app }) => {
    app.setErrorHandler((error, _request, reply) => reply.code(200).send(`excused: ${(error as Error).message}`))
    const route = (
      path: string, end: (request: FastifyRequest, reply: FastifyReply) => unknown
    ) => app.get(path, async (request, reply) => {
      await request.db.query(insert, [path])
      return end(request, reply)
    })
    route('/fine', () => 'x')
    route('/empty', (_request, reply) => reply.code(204).send())
    route('/status', (_request, reply) => reply.code(422).send('no'))
    route('/excused', () => { throw new Error('no') })
    route('/dry', (request) => {
      request.db.setRollbackOnly()
      return 'dry'
    })
  }, async (t, { get, saved, log }) => {
    for (const [path, status] of [['/fine', 200], ['/empty', 204], ['/status', 422], ['/excused', 200], ['/dry', 200]] as const) {
      t.match(await get(path), { status, complete: true }, path)
    }
    t.same(await saved(), ['/empty', '/fine'])
    t.equal(hijacked(log), 0)
  })

  test('a COMMIT that fails is an ordinary error', {}, ({ app }) => {
    app.get('/', async (request) => {
      await request.db.query(twice, ['twice'])
      return 'x'
    })
  }, async (t, { get, saved }) => {
    t.match(await get(), { status: 409, complete: true, body: /FST_PG_SCOPE_CONSTRAINT_VIOLATION/ })
    t.same(await saved(), [])
  })

  test('an onSend hook that always throws rolls back, and nothing is said of hijacking', {}, ({ app }) => {
    app.get('/', { onSend: async () => { throw new Error('always') } }, async (request) => {
      await request.db.query(insert, ['lost'])
      return 'x'
    })
  }, async (t, { app, get, saved, log }) => {
    t.match(await get(), { status: 500, complete: true })
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), [])
    t.equal(hijacked(log), 0)
  })

  for (const answer of ['a payload', 'nothing'] as const) {
    for (const onAbort of ['rollback', 'commit'] as const) {
      const reached = gate()
      const goOn = gate()
      test(`a client that leaves before ${answer} is sent, with onAbort '${onAbort}'`, { plugin: { onAbort } }, ({ app }) => {
        app.get('/', async (request) => {
          await request.db.query(insert, ['before'])
          reached.open()
          await goOn.opened
          await request.db.query(insert, ['after'])
          return answer === 'nothing' ? undefined : 'x'
        })
      }, async (t, { app, port, saved, log }) => {
        const { leave } = open(port, { path: '/' })
        await reached.opened
        leave()
        if (onAbort === 'rollback') await waitFor(() => app.db.stats().inUse === 0)
        else await sleep(50)
        goOn.open()
        await waitFor(() => app.db.stats().inUse === 0)
        t.same(await saved(), onAbort === 'commit' ? ['after', 'before'] : [])
        t.equal(hijacked(log), 0)
      })
    }
  }

  test('a client that leaves cancels the statement that runs', {}, ({ app }) => {
    app.get('/', async (request) => {
      await request.db.query(insert, ['lost'])
      await request.db.query('SELECT pg_sleep(60)')
    })
  }, async (t, { app, port, saved, busy, log }) => {
    const { leave } = open(port, { path: '/' })
    await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
    leave()
    await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
    t.same(await saved(), [])
    t.equal(hijacked(log), 0)
  })

  const left = { started: gate(), touch: gate(), touched: gate() }
  test('a handler that touches its session after its client has left is refused', {}, ({ app }) => {
    app.get('/', async (request) => {
      left.started.open()
      await left.touch.opened
      await request.db.query(insert, ['late']).then(() => left.touched.open(), () => left.touched.open())
    })
  }, async (t, { app, port, saved }) => {
    const { leave } = open(port, { path: '/' })
    await left.started.opened
    const closed = new Promise((resolve) => app.server.once('connection', resolve)) // of the next request
    leave()
    await open(port, { path: '/nowhere' }).response
    await closed
    await sleep(50)
    left.touch.open()
    await left.touched.opened
    t.same(await saved(), [])
    t.equal(app.db.stats().counters.acquired, 0)
  })

  test('COMMIT stands when the client leaves while it is under way', {}, ({ app }) => {
    app.get('/', async (request) => {
      await request.db.query('INSERT INTO slow VALUES ($1, 0.6, NULL)', ['stands'])
      return 'x'
    })
  }, async (t, { app, port, saved, busy, log }) => {
    const { leave } = open(port, { path: '/' })
    await waitFor(async () => (await busy()).includes('active: COMMIT'))
    leave()
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), ['stands'])
    t.equal(hijacked(log), 0)
  })

  const late: unknown[] = []
  test('handlerTimeout rolls back, and the handler that runs on finds its session closed', { fastify: { handlerTimeout: 300 } as never }, ({ app }) => {
    app.get('/', async (request) => {
      // On a busy machine the time may be over before.
      await request.db.query(insert, ['lost']).catch(() => {})
      await request.db.query('SELECT pg_sleep(60)').catch(() => {})
      late.push(await request.db.query(insert, ['late']).catch((error) => error))
      return 'x'
    })
  }, async (t, { get, saved }) => {
    t.match(await get(), { status: 503, complete: true })
    await waitFor(() => late.length > 0)
    t.match(late.splice(0), [{ code: /^FST_PG_SCOPE_(SESSION_CLOSED|CANCELED)$/ }])
    t.same(await saved(), [])
  })

  test('a reply of db.stream() is committed when it is read to its end', {}, ({ app }) => {
    app.get('/rows', async (request) => {
      await request.db.query(insert, ['rows'])
      return request.db.stream(series(3000))
    })
    app.get('/length', async (request, reply) => {
      await request.db.query(insert, ['length'])
      return reply.header('content-length', 30000).send(request.db.stream(series(3000)).pipe(lines()))
    })
    app.get('/dry', async (request) => {
      await request.db.query(insert, ['dry'])
      request.db.setRollbackOnly()
      return request.db.stream(series(3000))
    })
  }, async (t, { get, saved, log }) => {
    for (const path of ['/rows', '/length', '/dry']) {
      const { status, complete, body } = await get(path)
      t.match({ status, complete }, { status: 200, complete: true }, path)
      t.equal(body.split('\n').length, 3001, path)
    }
    t.same(await saved(), ['length', 'rows'])
    t.same(errors(log), [])
  })

  test('a COMMIT that fails behind a reply of db.stream() breaks the body, and is in the log', {}, ({ app }) => {
    const rows = async (request: FastifyRequest): Promise<Readable> => {
      await request.db.query(twice, ['twice'])
      return request.db.stream(series(20000))
    }
    app.get('/rows', rows)
    app.get('/text', async (request) => (await rows(request)).pipe(lines()))
    app.get('/length', async (request, reply) => reply.header('content-length', 200000).send((await rows(request)).pipe(lines())))
    app.get('/web', async (request) => new Response(Readable.toWeb((await rows(request)).pipe(lines())) as never))
  }, async (t, { get, saved, log }) => {
    for (const path of ['/rows', '/text', '/length', '/web']) {
      const { complete, body } = await get(path)
      t.notOk(complete, `${path}: never a complete body`)
      t.ok(body.length > 0, `${path}: after its first byte`)
      t.match(errors(log.splice(0)), [{ err: { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' } }], `${path}: one line in the log`)
    }
    t.same(await saved(), [])
  })

  test('a COMMIT that fails behind a short reply of db.stream() is an ordinary error', {}, ({ app }) => {
    app.get('/rows', async (request) => {
      await request.db.query(twice, ['twice'])
      return request.db.stream(series(3))
    })
    app.get('/length', async (request, reply) => {
      await request.db.query(twice, ['twice'])
      return reply.header('content-length', 10).send(request.db.stream(series(1)).pipe(lines()))
    })
  }, async (t, { get, saved }) => {
    for (const path of ['/rows', '/length']) {
      t.match(await get(path), { status: 409, complete: true, body: /FST_PG_SCOPE_CONSTRAINT_VIOLATION/ }, path)
    }
    t.same(await saved(), [])
  })

  test('a row that fails breaks the body, and is in the log', {}, ({ app }) => {
    const failing = 'SELECT n, 1 / (15000 - n) AS x, repeat(\'x\', 100) FROM generate_series(1, 20000) AS n'
    app.get('/rows', async (request) => {
      await request.db.query(insert, ['lost'])
      return request.db.stream(failing)
    })
    app.get('/length', async (request, reply) => {
      await request.db.query(insert, ['lost'])
      const rows = request.db.stream(failing)
      return reply.header('content-length', 200000).send(Readable.from((async function * () { for await (const { n } of rows) yield `${String(n).padStart(9)}\n` })()))
    })
    app.get('/dry', async (request) => {
      request.db.setRollbackOnly()
      return request.db.stream(failing)
    })
  }, async (t, { app, get, saved, log }) => {
    for (const path of ['/rows', '/length', '/dry']) {
      t.match(await get(path), { status: 200, complete: false }, path)
      await waitFor(() => app.db.stats().inUse === 0)
      t.match(errors(log.splice(0)), [{ err: { message: /division by zero/ } }], `${path}: one line in the log`)
    }
    t.same(await saved(), [])
  })

  test('a body that is longer than its content-length never looks complete before COMMIT', {}, ({ app }) => {
    app.get('/', async (request, reply) => {
      await request.db.query(twice, ['twice'])
      return reply.header('content-length', 25).send(request.db.stream(series(5)).pipe(lines()))
    })
  }, async (t, { get, saved }) => {
    const { status, complete } = await get()
    t.notOk(status === 200 && complete)
    t.same(await saved(), [])
  })

  for (const onAbort of ['rollback', 'commit'] as const) {
    test(`a client that leaves in the middle of db.stream(), with onAbort '${onAbort}'`, { plugin: { onAbort } }, ({ app }) => {
      app.get('/', async (request) => {
        await request.db.query(insert, ['work'])
        return request.db.stream(series(1000000))
      })
    }, async (t, { app, port, saved, busy, log }) => {
      const { leave, read } = open(port, { path: '/' })
      await waitFor(() => read().body.length > 0)
      leave()
      await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
      t.same(await saved(), onAbort === 'commit' ? ['work'] : [])
      t.equal(hijacked(log), 0)
      t.same(errors(log), [])
    })
  }

  for (const how of ['an error status', 'setRollbackOnly()'] as const) {
    const reached = gate()
    const goOn = gate()
    test(`a client that left before rows with ${how}, and onAbort 'commit': the session ends`, { plugin: { onAbort: 'commit' } }, ({ app }) => {
      app.get('/', async (request, reply) => {
        await request.db.query(insert, ['lost'])
        reached.open()
        await goOn.opened
        if (how === 'an error status') reply.code(409)
        else request.db.setRollbackOnly()
        return request.db.stream(series(100000))
      })
    }, async (t, { app, port, saved }) => {
      const { leave } = open(port, { path: '/' })
      await reached.opened
      leave()
      await sleep(50)
      goOn.open()
      await waitFor(() => app.db.stats().inUse === 0)
      t.same(await saved(), [])
    })
  }

  const seen: { inUse?: number, saved?: string[] } = {}
  test('another stream: what was done is committed before its first byte, and the connection is back', {}, ({ app, saved }) => {
    app.get('/', async (request) => {
      await request.db.query(insert, ['kept'])
      return Readable.from((async function * () {
        Object.assign(seen, { inUse: app.db.stats().inUse, saved: await saved() })
        yield 'file'
      })())
    })
    app.get('/refused', async (request) => {
      await request.db.query(twice, ['twice'])
      return Readable.from(['never sent'])
    })
  }, async (t, { get }) => {
    t.match(await get(), { status: 200, body: 'file', complete: true })
    t.same(seen, { inUse: 0, saved: ['kept'] })
    t.match(await get('/refused'), { status: 409, complete: true })
  })

  lateBodies(test as never, open)

  test('a hijacked reply is rolled back, with a warning', {}, ({ app }) => {
    app.get('/', async (request, reply) => {
      await request.db.query(insert, ['lost'])
      reply.hijack()
      reply.raw.end('by hand')
    })
    app.get('/commit', async (request, reply) => {
      await request.db.query(insert, ['kept'])
      await request.db.commit()
      reply.hijack()
      reply.raw.end('by hand')
    })
  }, async (t, { app, get, saved, log }) => {
    t.match(await get(), { status: 200, body: 'by hand' })
    await waitFor(() => app.db.stats().inUse === 0)
    t.match(await get('/commit'), { status: 200, body: 'by hand' })
    t.same(await saved(), ['kept'])
    t.equal(hijacked(log), 1)
  })

  test('a read-only transaction is read, as a value and as rows', { plugin: { readOnly: true } }, ({ app }) => {
    app.get('/value', async (request) => (await request.db.query('SELECT 1 AS one')).rows)
    app.get('/rows', async (request) => request.db.stream(series(3)))
    app.get('/file', async (request) => {
      await request.db.query('SELECT 1')
      return Readable.from(['file'])
    })
  }, async (t, { get }) => {
    t.match(await get('/value'), { status: 200, body: '[{"one":1}]', complete: true })
    t.match(await get('/rows'), { status: 200, complete: true })
    t.match(await get('/file'), { status: 200, body: 'file', complete: true })
  })

  const large = 'x'.repeat(50e6)
  for (const onAbort of ['rollback', 'commit'] as const) {
    test(`commitOn 'response' with 50 MB, and a client that leaves without reading them, with onAbort '${onAbort}'`, { plugin: { commitOn: 'response', onAbort } }, ({ app }) => {
      app.get('/', async (request) => {
        await request.db.query(insert, ['unread'])
        return large
      })
      app.get('/stream', async (request) => {
        await request.db.query(insert, ['unread stream'])
        return Readable.from((function * () { for (let i = 0; i < 50; i++) yield large.slice(0, 1e6) })())
      })
      app.get('/small', async (request) => {
        await request.db.query(insert, ['read'])
        return 'x'
      })
    }, async (t, { app, port, get, saved, log }) => {
      for (const path of ['/', '/stream']) {
        const { leave, pause } = open(port, { path })
        pause()
        await waitFor(() => app.db.stats().inUse === 1)
        await sleep(200)
        leave()
        await waitFor(() => app.db.stats().inUse === 0)
      }
      t.match(await get('/small'), { status: 200, complete: true })
      await waitFor(() => app.db.stats().inUse === 0)
      t.same(await saved(), onAbort === 'commit' ? ['read', 'unread', 'unread stream'] : ['read'])
      t.equal(hijacked(log), 0)
    })
  }
}

/** Bodies that use the session when the answer has been decided. */
function lateBodies (test: (name: string, options: CaseOptions, routes: (parts: Case) => void, body: (t: Test, parts: Case & { port: number, get: (path?: string) => Promise<HttpResponse> }) => Promise<void>) => void, open: Protocol['open']): void {
  const bodies: Record<string, (use: () => AsyncGenerator<string>) => unknown> = {
    generator: (use) => Readable.from(use()),
    web: (use) => Readable.toWeb(Readable.from(bytes(use()))),
    response: (use) => new Response(Readable.toWeb(Readable.from(bytes(use()))) as never)
  }
  async function * bytes (texts: AsyncGenerator<string>): AsyncGenerator<Buffer> {
    for await (const text of texts) yield Buffer.from(text)
  }

  for (const touched of [false, true]) {
    for (const mode of ['transaction', 'autocommit'] as const) {
      const when = `${touched ? 'again' : 'for the first time'} in mode ${mode}`
      const register = (app: Case['app'], use: (request: FastifyRequest) => AsyncGenerator<string>) => {
        for (const [name, make] of Object.entries(bodies)) {
          app.get(`/${name}`, async (request) => {
            if (touched) await request.db.query(insert, [`${name} before`])
            return make(() => use(request))
          })
        }
      }
      // What is done before the answer is committed before its first byte.
      const before = (...names: string[]) => touched ? names.map((name) => `${name} before`) : []

      test(`a body that uses the session ${when} is committed when it is read to its end`, { plugin: { mode } }, ({ app }) => {
        for (const [name, make] of Object.entries(bodies)) {
          app.get(`/${name}`, async (request) => {
            if (touched) await request.db.query(insert, [`${name} before`])
            return make(async function * () {
              yield 'first,'
              const { db } = request
              await db.query(insert, [`${name} in the body`])
              yield 'second,'
              await db.query(insert, [`${name} at its end`])
              yield 'third'
            })
          })
        }
      }, async (t, { app, get, saved, log }) => {
        const expected: string[] = []
        for (const name of Object.keys(bodies)) {
          t.match(await get(`/${name}`), { status: 200, body: 'first,second,third', complete: true }, name)
          expected.push(...before(name), `${name} in the body`, `${name} at its end`)
          t.same(await saved(), expected.sort(), name)
          t.equal(app.db.stats().inUse, 0)
        }
        t.same(errors(log), [])
        t.equal(hijacked(log), 0)
      })

      test(`a body that uses the session ${when} and throws breaks off`, { plugin: { mode } }, ({ app }) => {
        register(app, async function * (request) {
          yield 'first'
          yield 'second'
          await request.db.query(insert, ['in the body'])
          yield 'third'
          throw new Error('in the middle')
        })
      }, async (t, { app, get, saved }) => {
        for (const name of Object.keys(bodies)) t.match(await get(`/${name}`), { status: 200, complete: false }, name)
        await waitFor(() => app.db.stats().inUse === 0)
        const lost = mode === 'transaction' ? [] : ['in the body', 'in the body', 'in the body']
        t.same(await saved(), [...before(...Object.keys(bodies)), ...lost].sort())
      })

      if (mode === 'autocommit') continue

      test(`a COMMIT that fails behind a body that uses the session ${when} breaks it off, and is in the log`, {}, ({ app }) => {
        register(app, async function * (request) {
          yield 'first'
          yield 'second'
          await request.db.query(twice, ['twice'])
          yield 'third'
        })
      }, async (t, { get, saved, log }) => {
        for (const name of Object.keys(bodies)) {
          t.match(await get(`/${name}`), { status: 200, complete: false }, name)
          t.match(errors(log.splice(0)), [{ err: { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' } }], name)
        }
        t.same(await saved(), before(...Object.keys(bodies)).sort())
      })

      test(`a body that uses the session ${when} before its first byte may still become an error`, {}, ({ app }) => {
        register(app, async function * (request) {
          await request.db.query(twice, ['twice'])
          yield 'only'
        })
      }, async (t, { get, saved }) => {
        // What was done before the answer is saved by then, and the error says so.
        const error = touched ? { status: 500, complete: true, body: /FST_PG_SCOPE_ANSWER_FAILED/ } : { status: 409, complete: true }
        for (const name of Object.keys(bodies)) t.match(await get(`/${name}`), error, name)
        t.same(await saved(), before(...Object.keys(bodies)).sort())
      })

      test(`a statement that fails in a body that uses the session ${when}, and is caught, breaks it off`, {}, ({ app }) => {
        register(app, async function * (request) {
          yield 'first'
          yield 'second'
          await request.db.query(insert, ['lost'])
          await request.db.query('SELECT 1 / 0').catch(() => {})
          yield 'third'
        })
      }, async (t, { get, saved }) => {
        for (const name of Object.keys(bodies)) t.match(await get(`/${name}`), { status: 200, complete: false }, name)
        t.same(await saved(), before(...Object.keys(bodies)).sort())
      })

      test(`a client that leaves a body that uses the session ${when}: rolled back`, {}, ({ app }) => {
        register(app, async function * (request) {
          await request.db.query(insert, ['lost'])
          while (true) {
            yield 'x'.repeat(10000)
            await sleep(5)
          }
        })
      }, async (t, { app, port, saved, log }) => {
        for (const name of Object.keys(bodies)) {
          const { leave, read } = open(port, { path: `/${name}` })
          await waitFor(() => read().body.length > 0)
          leave()
          await waitFor(() => app.db.stats().inUse === 0)
        }
        t.same(await saved(), before(...Object.keys(bodies)).sort())
        t.equal(hijacked(log), 0)
        t.same(errors(log), [])
      })
    }
  }

  test('a body with an error status uses the session, and nothing of it is saved', {}, ({ app }) => {
    app.get<{ Params: { how: string } }>('/:how', async (request, reply) => {
      if (request.params.how === 'again') await request.db.query(insert, ['before'])
      return reply.code(422).type('text/plain').send(Readable.from((async function * () {
        yield 'first,'
        await request.db.query(insert, ['in the body'])
        yield 'second'
      })()))
    })
  }, async (t, { get, saved }) => {
    for (const path of ['/again', '/first']) t.match(await get(path), { status: 422, body: 'first,second', complete: true }, path)
    t.same(await saved(), [])
  })

  test('a body of events that touched the session before is not held back', {}, ({ app }) => {
    app.get('/', async (request) => {
      await request.db.query('SELECT 1')
      return Readable.from((async function * () {
        yield 'first event'
        await new Promise(() => {})
      })())
    })
  }, async (t, { app, port }) => {
    const { leave, read } = open(port, { path: '/' })
    await waitFor(() => read().body === 'first event')
    t.equal(app.db.stats().inUse, 0)
    leave()
  })
}
