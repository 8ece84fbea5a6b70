import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import type { Subject, Work } from './subject.ts'
import { write } from './schema.ts'

const tagOf = (request: FastifyRequest): string => (request.query as { tag: string }).tag
const save = (work: Work, request: FastifyRequest, suffix = '') => work.query(write, [`${tagOf(request)}${suffix}`])

/**
 * The same handlers for every subject. They return what is to be sent and never call reply.send(): a transaction by
 * hand could not commit before that.
 */
export function declareRoutes (subject: Subject): void {
  const post = subject.route.bind(subject, 'POST')
  const get = subject.route.bind(subject, 'GET')

  post('/success', {}, async (work, request, reply) => {
    await save(work, request)
    reply.code(201)
    return { ok: true }
  })
  post('/throw', {}, async (work, request) => {
    await save(work, request)
    throw new Error('by the handler')
  })
  post('/error-status', {}, async (work, request, reply) => {
    await save(work, request)
    reply.code(422)
    return { ok: false }
  })
  post('/error-handler', { errorHandler: (_error, _request, reply) => reply.code(200).send({ ok: 'so to speak' }) }, async (work, request) => {
    await save(work, request)
    throw new Error('by the handler')
  })
  post('/swallowed', {}, async (work, request, reply) => {
    await save(work, request)
    await work.query('SELECT 1 / 0').catch(() => {})
    reply.code(201)
    return { ok: true }
  })
  post('/deferred', {}, async (work, request, reply) => {
    await save(work, request)
    await work.query('INSERT INTO pets (owner) VALUES (1)')
    reply.code(201)
    return { ok: true }
  })
  const slow = async (work: Work, request: FastifyRequest) => {
    await save(work, request)
    await work.query('SELECT pg_sleep($1)', [(request.query as { seconds?: string }).seconds ?? '5'])
    return { ok: true }
  }
  get('/slow', {}, slow)
  post('/slow', {}, slow)
  get('/slow-stream', {}, async (work, request) => {
    await save(work, request)
    return Readable.from(endless())
  })
  subject.rows('/rows', "SELECT n, repeat('x', 200) AS filler FROM generate_series(1, 1000000) AS n")
  post('/hijack', {}, async (work, request, reply) => {
    await save(work, request)
    if ('commit' in (request.query as object)) await work.commit()
    reply.hijack()
    reply.raw.writeHead(201, { 'content-length': 2 }).end('ok')
  })
  get('/timeout', { handlerTimeout: 300 }, async (work, request) => {
    await save(work, request)
    await sleep(700)
    await save(work, request, ' late')
    return { ok: true }
  })
  let thrown = 0
  post('/on-send-once', { onSend: async () => { if (thrown++ === 0) throw new Error('by the hook') } }, async (work, request, reply) => {
    await save(work, request)
    reply.code(201)
    return { ok: true }
  })
  post('/on-send-always', { onSend: async () => { throw new Error('by the hook') } }, async (work, request, reply) => {
    await save(work, request)
    reply.code(201)
    return { ok: true }
  })
  post('/away', {}, async (work, request, reply) => {
    await save(work, request)
    await sleep(1500)
    reply.code(201)
    return { ok: true }
  })
  post('/never', {}, async (work, request) => {
    await save(work, request)
    await new Promise(() => {})
  })
  post('/no-await', {}, async (work, request, reply) => {
    work.query(write, [tagOf(request)])
    reply.code(201)
    return { ok: true }
  })
  post('/no-await-failing', {}, async (work, request, reply) => {
    await save(work, request)
    work.query('SELECT 1 / 0')
    reply.code(201)
    return { ok: true }
  })
}

async function * endless (): AsyncGenerator<string> {
  for (;;) {
    yield 'x'.repeat(1000)
    await sleep(10)
  }
}
