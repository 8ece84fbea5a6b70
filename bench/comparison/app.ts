// The app of one case, in a process of its own, so that a crash is seen as one.
import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { declareRoutes } from './routes.ts'
import { type Setup, type SubjectName, subjects } from './subject.ts'

export type Ask = { id: number, what: 'use' | 'close' }

const [name, setup] = JSON.parse(process.argv[2]!) as [SubjectName, Setup]
const app = Fastify()
const subject = await subjects[name](app, setup)
declareRoutes(subject)
await app.listen({ port: 0, host: '127.0.0.1' })

process.on('message', async ({ id, what }: Ask) => {
  const answer = what === 'use' ? subject.use() : await app.close()
  process.send!({ id, answer })
})
// An orphan would stay for ever.
process.on('disconnect', () => process.exit())
process.send!({ port: (app.server.address() as AddressInfo).port })
