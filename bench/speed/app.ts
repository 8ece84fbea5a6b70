// The app of one subject, in a process of its own: what the load costs is not taken from it.
import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { type NodeSubjectName, type Setup, subjects } from './subject.ts'

const [name, setup] = JSON.parse(process.argv[2]!) as [NodeSubjectName, Setup]
const app = Fastify()
const { default: declare } = await subjects[name].load()
await declare(app, setup)
app.get('/plain', async () => ({ hello: 'world' }))
for (let route = 0; route < setup.moreRoutes; route++) app.get(`/more/${route}`, async () => ({ route }))
await app.listen({ port: 0, host: '127.0.0.1' })

/** Both in microseconds. */
export interface CpuTime {
  used: number
  at: number
}

const cpu = (): CpuTime => {
  const { user, system } = process.cpuUsage()
  return { used: user + system, at: performance.now() * 1000 }
}
const answers = { cpu }
export type Question = keyof typeof answers

process.on('message', (question: Question) => { process.send!(answers[question]()) })
// An orphan would stay for ever.
process.on('disconnect', () => process.exit())
process.send!((app.server.address() as AddressInfo).port)
