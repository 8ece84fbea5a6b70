import type { Socket } from 'node:net'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'

/**
 * Closes connections that have never sent a byte as the app closes: browsers and fetch() open some ahead of need,
 * Node's server does not count them as idle, and close() would wait more than a minute for them.
 */
const silentSockets: FastifyPluginAsync = async (app) => {
  const open = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  app.addHook('preClose', async () => {
    for (const socket of open) if (socket.bytesRead === 0) socket.destroy()
  })
}

export default fp(silentSockets, { name: 'silent-sockets' })
