// Requests that need a second connection. deadlock.test.ts runs these for each strategy.
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RouteOptions } from '../../../lib/index.ts'
import { send } from '../../../harness/http-client.ts'

/** Long enough for every request to get as far as it gets. */
export const pause = 60

export interface Handler {
  name: string
  config?: RouteOptions
  handle (request: FastifyRequest, app: FastifyInstance): Promise<unknown>
}

const first = (request: FastifyRequest) => request.db.query('SELECT 1')

/** Each holds a connection and cannot go on without another one. */
export const greedy: Handler[] = [{
  name: 'app.db.query()',
  async handle (request, app) {
    await first(request)
    await sleep(pause)
    await app.db.query('SELECT 1')
  }
}, {
  name: 'app.db.scope()',
  async handle (request, app) {
    await first(request)
    await sleep(pause)
    await app.db.scope((session) => session.query('SELECT 1'))
  }
}, {
  name: 'app.db.lease()',
  async handle (request, app) {
    await first(request)
    await sleep(pause)
    await app.db.lease((client) => client.query('SELECT 1'))
  }
}, {
  name: 'app.db.session()',
  async handle (request, app) {
    await first(request)
    await sleep(pause)
    await using session = app.db.session()
    await session.query('SELECT 1')
  }
}, {
  name: 'a function called somewhere below, inside of transaction(fn)',
  async handle (request, app) {
    const audit = async (): Promise<void> => { await app.db.scope(async (session) => { await session.query('SELECT 1') }) }
    await request.db.transaction(async (session) => {
      await session.query('SELECT 1')
      await sleep(pause)
      await Promise.resolve().then(audit)
    })
  }
}, {
  name: 'rows that are read while another session is asked for',
  async handle (request, app) {
    await first(request)
    await sleep(pause)
    for await (const { n } of request.db.stream('SELECT generate_series(1, 3) AS n')) await app.db.query('SELECT $1::int', [n])
  }
}, {
  name: 'transaction(fn) in mode autocommit',
  config: { mode: 'autocommit' },
  async handle (request, app) {
    await request.db.transaction(async (session) => {
      await session.query('SELECT 1')
      await sleep(pause)
      await app.db.query('SELECT 1')
    })
  }
}, {
  name: 'a scope inside of a scope',
  async handle (_request, app) {
    await app.db.scope(async (session) => {
      await session.query('SELECT 1')
      await sleep(pause)
      await app.db.scope((inner) => inner.query('SELECT 1'))
    })
  }
}, {
  name: 'a session inside of lease(fn)',
  async handle (_request, app) {
    await app.db.lease(async (client) => {
      await client.query('SELECT 1')
      await sleep(pause)
      await app.db.query('SELECT 1')
    })
  }
}]

/** Each can go on, however full the pool is: nobody may be refused. */
export const harmless: Handler[] = [{
  name: 'work in one session, and something else in between',
  async handle (request) {
    await first(request)
    await sleep(pause)
    await Promise.all([first(request), first(request)])
  }
}, {
  name: 'sessions of the engine before request.db is touched',
  async handle (request, app) {
    await Promise.all([app.db.query('SELECT 1'), app.db.scope((session) => session.query('SELECT 1')), app.db.lease((client) => client.query('SELECT 1'))])
    await first(request)
  }
}, {
  name: 'a session of the engine after commit()',
  async handle (request, app) {
    await first(request)
    await request.db.commit()
    await app.db.query('SELECT 1')
  }
}, {
  name: 'sessions opened by hand, one after another',
  async handle (_request, app) {
    for (let i = 0; i < 3; i++) {
      await using session = app.db.session()
      await session.query('SELECT 1')
      await sleep(5)
    }
  }
}, {
  name: 'transactions side by side in mode autocommit',
  config: { mode: 'autocommit' },
  async handle (request) {
    await Promise.all([1, 2, 3].map(() => request.db.transaction(async (session) => {
      await session.query('SELECT 1')
      await sleep(pause)
      await session.query('SELECT 1')
    })))
  }
}, {
  name: 'streams side by side in mode autocommit',
  config: { mode: 'autocommit' },
  async handle (request) {
    await Promise.all([1, 2, 3].map(async () => {
      for await (const row of request.db.stream('SELECT generate_series(1, 20) AS n', [], { batchSize: 5 })) if (row.n % 5 === 0) await sleep(pause / 4)
    }))
  }
}, {
  name: 'statements side by side in mode autocommit',
  config: { mode: 'autocommit' },
  async handle (request, app) {
    await Promise.all([first(request), first(request), app.db.query('SELECT 1')])
  }
}, {
  name: 'work of the engine that the request does not wait for',
  async handle (request, app) {
    await first(request)
    app.db.query('SELECT 1').catch((error) => request.log.error(error))
    for (let i = 0; i < 5; i++) await request.db.query('SELECT pg_sleep(0.02)')
  }
}]

/** Answers of requests that come at once, each on a socket of its own. */
export function many (app: FastifyInstance, path: string, count: number) {
  const { port } = app.server.address() as AddressInfo
  return Promise.all(Array.from({ length: count }, () => send(port, { path })))
}

/** Status codes of requests that are all written at once to one socket (RFC 9112, section 9.3.2), in their order. */
export async function pipelined (app: FastifyInstance, path: string, count: number): Promise<number[]> {
  const { port } = app.server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1' })
  let text = ''
  for (let i = 1; i <= count; i++) socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: ${i < count ? 'keep-alive' : 'close'}\r\n\r\n`)
  for await (const chunk of socket) text += String(chunk)
  return Array.from(text.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => Number(status))
}
