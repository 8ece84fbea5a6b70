import type { AddressInfo } from 'node:net'
import { buildApp } from './app.ts'

console.log('Starting the bank')
const app = buildApp({ logger: true })

try {
  await app.ready()
  const { HOST, PORT } = app.config
  await app.listen({ host: HOST, port: PORT })
  closeOnSignals()
  const { port } = app.server.address() as AddressInfo
  console.log(whatToTry(`http://${HOST.includes(':') ? `[${HOST}]` : HOST}:${port}`))
} catch (error) {
  // Closing stops the database that was started for nothing.
  await app.close().catch(() => {})
  fail(error)
}

/** Requests in flight finish and commit. Before the app listens, a signal simply ends the process, and its database. */
function closeOnSignals (): void {
  // A terminal sends the signal to this process, and npm passes it on: it may come twice. close() runs once.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      app.log.info(`${signal}: closing`)
      app.close().catch(fail)
    })
  }
}

function fail (error: unknown): void {
  console.error(`The bank cannot run: ${error instanceof Error ? error.message : String(error)}`)
  if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
    console.error('Another program has that port. Choose one with PORT, or 0 for a free one.')
  }
  process.exitCode = 1
}

function whatToTry (url: string): string {
  return `
The bank is open at ${url}. Try:

  curl ${url}/accounts -H 'content-type: application/json' -d '{"owner":"Ada","balance":10000}'
  curl ${url}/accounts -H 'content-type: application/json' -d '{"owner":"Grace","balance":0}'
  curl ${url}/transfers -H 'content-type: application/json' -d '{"from":1,"to":2,"amount":2500}'
  curl ${url}/transfers -H 'content-type: application/json' -d '{"from":2,"to":1,"amount":999999}'
  curl ${url}/accounts/1
  curl ${url}/ledger
  curl ${url}/health

Ctrl-C closes it.
`
}
