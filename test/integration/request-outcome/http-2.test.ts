import t from 'tap'
import { requestsEndAlike } from './protocol-cases.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'

await requestsEndAlike(t, {
  name: 'HTTP/2',
  fastify: { http2: true } as never,
  open: (port, request) => openHttp2Request(port, request)
})
