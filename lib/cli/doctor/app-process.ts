// The process that loads the app for `--app`: an app may write to its output, or end its process.
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from './ask.ts'
import type { Facts } from './facts.ts'
import { gatherEach } from './gather.ts'
import { type Exported, loadApp, refuseToListen } from './load-app.ts'
import { adminConfig, optionsDuring, resolveByPlugin } from './plugin-options.ts'

export interface AppRequest {
  readonly file: string
  readonly name: string
  /** A URL that was checked. */
  readonly admin: string | null
}

/** How long the app may take to close before its process ends. Milliseconds. */
const closeLimit = 10000

export type AppAnswer = { readonly facts: Facts[] } | { readonly problem: string }

async function answer ({ file, name, admin }: AppRequest): Promise<AppAnswer> {
  // The default application_name has the name of the package whose script was started.
  process.argv[1] = file
  let loaded: Exported | undefined
  let bootFailure: string | null = null
  const engines = await optionsDuring(async () => {
    try {
      loaded = await loadApp(file)
      if (loaded.kind === 'app') await loaded.app.ready()
    } catch (error) {
      bootFailure = messageOf(error)
    }
  })
  try {
    if (loaded?.kind === 'options') engines.push(await resolveByPlugin(loaded.options))
    if (engines.length === 0) {
      return { problem: bootFailure ?? `The app of ${name} does not register fastify-pg-scope` }
    }
    const facts: Facts[] = []
    const console = admin === null ? null : adminConfig(admin)
    for (const options of engines) {
      facts.push(...await gatherEach({ options, source: name, bootFailure, admin: console }))
    }
    return { facts }
  } finally {
    if (loaded?.kind === 'app') await Promise.race([loaded.app.close().catch(() => {}), sleep(closeLimit)])
  }
}

const send = async (message: AppAnswer): Promise<void> => {
  await new Promise((resolve) => process.send!(message, resolve))
}

refuseToListen(() => { process.send!({ problem: listens } satisfies AppAnswer) })
const listens = 'The module listens on a port while it is loaded, which the doctor does not permit. Name the file ' +
  'that builds the app, and let another one listen'

process.once('message', (request: AppRequest) => {
  answer(request).catch((error): AppAnswer => ({ problem: messageOf(error) })).then(send).then(() => process.exit())
})
// The doctor has gone.
process.once('disconnect', () => process.exit(1))
