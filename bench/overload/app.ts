// The app under load, in a process of its own: what the load costs is not taken from it.
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import pgScope from '../../lib/index.ts'
import { acquireTimeout, connections, work } from './setup.ts'

const app = Fastify()
await app.register(pgScope, { connectionString: process.argv[2], pool: { max: connections, acquireTimeout } })
app.get('/', async (request) => {
  await request.db.query('SELECT pg_sleep($1)', [work / 1000])
  return { ok: true }
})
await app.listen({ port: 0, host: '127.0.0.1' })
process.on('disconnect', () => app.close())
process.send!((app.server.address() as AddressInfo).port)
