import Fastify from 'fastify'
import {
  cloneDatabase, openSandbox, type CloneOptions, type DatabaseClone, type Sandbox, type SandboxOptions
} from '../../lib/testing/index.ts'
import { typeOf } from './expect.ts'

const app = Fastify()
const options: SandboxOptions = { decorator: 'reporting' }
const sandbox = await openSandbox(app, options)
typeOf(sandbox).is<Sandbox>()
typeOf(sandbox.rollback()).is<Promise<void>>()
typeOf(sandbox.close()).is<Promise<void>>()

async function scoped (): Promise<void> {
  await using sandbox = await openSandbox(app)
  await sandbox.rollback()
  const cloneOptions: CloneOptions = { template: 'shop', timeout: 1000 }
  await using clone = await cloneDatabase('postgres://localhost/shop', cloneOptions)
  typeOf(clone).is<DatabaseClone>()
  typeOf(clone.connectionString).is<string>()
  await clone.drop()
}
await scoped()

// Over TLS, HTTP/2 or with another logger it is an app too.
await openSandbox(Fastify({ http2: true }))

// @ts-expect-error unknown
await openSandbox(app, { decorators: 'db' })
// @ts-expect-error a string
await cloneDatabase(new URL('postgres://localhost/shop'))
