import t from 'tap'
import { requestsEndAlike } from './protocol-cases.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'
import { serverTls } from '../../../harness/tls/server-tls.ts'

await requestsEndAlike(t, {
  name: 'HTTP/2 over TLS',
  fastify: { http2: true, https: serverTls } as never,
  open: (port, request) => openHttp2Request(port, { ...request, secure: true })
})
