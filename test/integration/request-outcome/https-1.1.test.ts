import t from 'tap'
import { requestsEndAlike } from './protocol-cases.ts'
import { openRequest } from '../../../harness/http-client.ts'
import { serverTls } from '../../../harness/tls/server-tls.ts'

await requestsEndAlike(t, {
  name: 'HTTP/1.1 over TLS',
  fastify: { https: serverTls } as never,
  open (port, request) {
    const { socket, response, read } = openRequest(port, { ...request, version: '1.1', secure: true })
    return { response, read, leave: () => { socket.destroy() }, pause: () => { socket.pause() } }
  }
})
