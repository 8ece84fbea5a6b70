import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { once } from 'node:events'
import { test } from 'tap'
import { hangUp, openRequest, send } from '../../../harness/http-client.ts'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import type { Test } from 'tap'

async function listen (t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

function serve (t: Test, handler: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<number> {
  return listen(t, createServer(handler))
}

/** A server that writes these pieces, each in a chunk of its own, and closes. */
function script (t: Test, ...pieces: string[]): Promise<number> {
  return listen(t, createTcpServer(socket => {
    socket.on('error', () => {})
    socket.once('data', async () => {
      for (const piece of pieces) {
        socket.write(piece)
        await new Promise(resolve => setTimeout(resolve, 2))
      }
      socket.end()
    })
  }))
}

test('sends a JSON body and reads a response of known length', async t => {
  const port = await serve(t, async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    response.setHeader('set-cookie', ['a=1', 'b=2'])
    const answer = JSON.stringify({ method: request.method, url: request.url, type: request.headers['content-type'], body })
    response.writeHead(201, { 'content-length': answer.length }).end(answer)
  })
  const response = await send(port, { path: '/things?x=1', body: { a: 1 } })
  t.match(response, { status: 201, complete: true, headers: { 'set-cookie': 'a=1, b=2' } })
  t.same(JSON.parse(response.body), { method: 'POST', url: '/things?x=1', type: 'application/json', body: '{"a":1}' })
  t.ok(response.socket.destroyed)
})

test('reads a chunked response, whatever the boundaries', async t => {
  const whole = 'HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n' +
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nWiki\r\n6;x=y\r\npedia \r\n0\r\ntrailer: 1\r\n\r\n'
  const inOne = await send(await script(t, whole))
  const byByte = await send(await script(t, ...whole))
  t.match(inOne, { status: 200, body: 'Wikipedia ', complete: true })
  t.match(byByte, { status: 200, body: 'Wikipedia ', complete: true })
})

test('a body without length ends with the connection', async t => {
  t.match(await send(await script(t, 'HTTP/1.1 200 OK\r\n\r\nall', ' of it')), { body: 'all of it', complete: true })
})

test('says that a response was cut short', async t => {
  const sized = await script(t, 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
  t.match(await send(sized), { status: 200, body: 'half', complete: false })
  const chunked = await script(t, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n')
  t.match(await send(chunked), { status: 200, body: 'half', complete: false })
  t.match(await send(await script(t, 'HTTP/1.1 200 OK\r\ncontent-')), { status: 0, complete: false })
})

test('no body comes with HEAD and 204', async t => {
  const port = await serve(t, (request, response) => {
    if (request.method === 'HEAD') response.setHeader('content-length', 5).end()
    else response.writeHead(204).end()
  })
  t.match(await send(port, { method: 'HEAD' }), { status: 200, body: '', complete: true })
  t.match(await send(port), { status: 204, body: '', complete: true })
})

test('a refused connection is a response with status 0', async t => {
  const server = createTcpServer()
  const port = await listen(t, server)
  server.close()
  t.match(await send(port), { status: 0, complete: false, error: { code: 'ECONNREFUSED' } })
})

test('several requests on one socket', async t => {
  const port = await serve(t, (request, response) => response.end(request.url))
  const first = await send(port, { path: '/1', keepAlive: true })
  const second = await send(port, { path: '/2', keepAlive: true, socket: first.socket })
  const third = await send(port, { path: '/3', socket: second.socket })
  t.same([first.body, second.body, third.body], ['/1', '/2', '/3'])
  t.equal(third.socket, first.socket)
  t.ok(third.socket.destroyed)
  t.match(await send(port, { socket: third.socket }), { status: 0, complete: false })
})

test('hangs up after a time, a promise, the headers or some of the body', async t => {
  const closed: Array<Promise<unknown>> = []
  const port = await serve(t, (request, response) => {
    closed.push(once(response, 'close'))
    if (request.url === '/silent') return
    response.writeHead(200)
    response.flushHeaders()
    if (request.url === '/body') setTimeout(() => response.write('some'), 5)
  })
  const start = performance.now()
  t.match(await hangUp(port, { path: '/silent' }, { after: 30 }), { status: 0, complete: false })
  t.ok(performance.now() - start >= 29)
  const arrived = new Promise(resolve => setTimeout(resolve, 20))
  t.match(await hangUp(port, { path: '/silent', body: 'x' }, { after: arrived }), { status: 0, complete: false })
  t.match(await hangUp(port, {}, { after: 'headers' }), { status: 200, body: '', complete: false })
  t.match(await hangUp(port, { path: '/body' }, { after: { bytes: 4 }, reset: true }), { body: 'some', complete: false })
  await Promise.all(closed)
  t.equal(closed.length, 4)
})

test('hanging up too late returns the whole response', async t => {
  const port = await serve(t, (request, response) => response.end('done'))
  t.match(await hangUp(port, {}, { after: 10_000 }), { body: 'done', complete: true })
})

test('a request can be left half sent', async t => {
  const port = await serve(t, async (request, response) => {
    for await (const chunk of request) response.write(chunk)
    response.end()
  })
  const { socket, response, read } = openRequest(port, { body: 'half', headers: { 'Content-Length': '8' } })
  await once(socket, 'data')
  t.match(read(), { status: 200, complete: false })
  socket.write('more')
  t.match(await response, { body: 'halfmore', complete: true })
})
