// Plugins that keep something on the reply: with `retry`, what a failed attempt has done by them is undone.
import compress from '@fastify/compress'
import cookie from '@fastify/cookie'
import etag from '@fastify/etag'
import fastifySession from '@fastify/session'
import { gunzipSync } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { bankCases } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import { pgScope } from '../../../harness/plugin.ts'

const { postgres, test } = await bankCases(t)
await prepareConflicts(postgres)
const retry = { attempts: 3, minDelay: 1 }

const orders = ['before', 'after'] as const
const ends = ['a statement', 'COMMIT'] as const

/** Calls `body` with the plugins registered before and after this one. */
function everyWay (
  name: string, plugins: (app: FastifyInstance) => Promise<unknown>,
  body: (t: Test, app: FastifyInstance) => Promise<void>
): void {
  for (const order of orders) {
    test(`${name}, registered ${order} this plugin`, { register: false }, async (t, { app, plugin }) => {
      if (order === 'before') await plugins(app)
      await app.register(pgScope, { ...plugin, retry })
      if (order === 'after') await plugins(app)
      await body(t, app)
    })
  }
}

type Test = Parameters<Parameters<typeof test>[2]>[0]

/** Fails the first two attempts of a request. */
async function fail (app: FastifyInstance, end: typeof ends[number], attempt: number): Promise<void> {
  const db = app.db.current()
  if (attempt < 3) await db.query(end === 'COMMIT' ? late : conflict)
  await db.query(insert, [`${end} ${attempt}`])
}

everyWay('@fastify/cookie: cookies of a failed attempt are not set', async (app) => {
  await app.register(cookie, { secret: 'x'.repeat(32) })
}, async (t, app) => {
  app.addHook('onRequest', async (_request, reply) => { reply.setCookie('early', '1') })
  for (const end of ends) {
    app.post(`/${end[0]}`, async (request, reply) => {
      const { attempt } = request.db
      reply.setCookie(`of${attempt}`, 'x').setCookie('token', `${attempt}`, { signed: false }).clearCookie(`old${attempt}`)
      if (attempt === 1) reply.setCookie('early', 'changed')
      await fail(app, end, attempt)
      return { attempt }
    })
  }
  for (const end of ends) {
    const { statusCode, cookies } = await app.inject({ method: 'POST', url: `/${end[0]}` })
    t.equal(statusCode, 200)
    t.same(cookies.map(({ name, value }) => `${name}=${value}`).sort(), ['early=1', 'of3=x', 'old3=', 'token=3'], end)
  }
})

everyWay('@fastify/session: a session that a failed attempt begins is not the client\'s', async (app) => {
  await app.register(cookie)
  await app.register(fastifySession, { secret: 'x'.repeat(32), cookie: { secure: false }, saveUninitialized: false })
}, async (t, app) => {
  for (const end of ends) {
    app.post(`/${end[0]}`, async (request) => {
      const { attempt } = request.db
      request.session.set('attempt' as never, attempt as never)
      await fail(app, end, attempt)
      return { attempt }
    })
    app.get(`/${end[0]}`, async (request) => ({ attempt: request.session.get('attempt' as never) as unknown }))
  }
  for (const end of ends) {
    const first = await app.inject({ method: 'POST', url: `/${end[0]}` })
    t.equal(first.cookies.length, 1, 'one cookie')
    const { name, value } = first.cookies[0]!
    t.same((await app.inject({ url: `/${end[0]}`, cookies: { [name]: value } })).json(), { attempt: 3 }, end)
  }
})

everyWay('@fastify/compress and @fastify/etag: the last attempt alone is compressed and tagged', async (app) => {
  await app.register(compress, { threshold: 0 })
  await app.register(etag)
}, async (t, app) => {
  for (const end of ends) {
    app.post(`/${end[0]}`, async (request, reply) => {
      const { attempt } = request.db
      await fail(app, end, attempt)
      if (attempt === 1) reply.header('x-first', '1')
      return { attempt, text: 'x'.repeat(100) }
    })
  }
  for (const end of ends) {
    const { headers, rawPayload } = await app.inject({ method: 'POST', url: `/${end[0]}`, headers: { 'accept-encoding': 'gzip' } })
    t.match(headers, { 'content-encoding': 'gzip', 'content-type': /json/ })
    t.notOk('x-first' in headers)
    t.match(JSON.parse(gunzipSync(rawPayload).toString()), { attempt: 3 }, end)
  }
})
