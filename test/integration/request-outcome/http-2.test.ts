import { constants } from 'node:http2'
import t from 'tap'
import { requestsEndAlike } from './protocol-cases.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'

await requestsEndAlike(t, {
  name: 'HTTP/2',
  fastify: { http2: true } as never,
  open: (port, request) => openHttp2Request(port, request)
})

// Not all proxies say CANCEL when their own client has left.
await requestsEndAlike(t, {
  name: 'HTTP/2, reset without an error code',
  fastify: { http2: true } as never,
  open: (port, request) => openHttp2Request(port, { ...request, resetCode: constants.NGHTTP2_NO_ERROR }),
  onlyLeaving: true
})
