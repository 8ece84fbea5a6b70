import t from 'tap'
import { requestsEndAlike } from './protocol-cases.ts'
import { openRequest } from '../../../harness/http-client.ts'

await requestsEndAlike(t, {
  name: 'HTTP/1.1',
  open (port, request) {
    const { socket, response, read } = openRequest(port, { ...request, version: '1.1' })
    return { response, read, leave: () => { socket.destroy() }, pause: () => { socket.pause() } }
  }
})
