import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { extname, join, resolve as resolvePath } from 'node:path'
import { UsageError } from '../usage-error.ts'
import type { AppAnswer, AppRequest } from './app-process.ts'
import { cannotRun } from './doctor-arguments.ts'
import type { Facts } from './facts.ts'

/**
 * Loads the app in a process of its own, whose output goes to stderr, and gathers the facts of its engines there.
 *
 * @throws UsageError when it cannot be loaded, or registers no engine
 */
export async function askApp (name: string, admin: string | null): Promise<Facts[]> {
  const file = resolvePath(name)
  if (!existsSync(file)) throw new UsageError(`\`--app\`: there is no file ${name}`, cannotRun)
  const program = join(import.meta.dirname, `app-process${extname(import.meta.filename)}`)
  const child = fork(program, { stdio: ['ignore', 2, 2, 'ipc'], serialization: 'advanced' })
  child.send({ file, name, admin } satisfies AppRequest)
  const answer = await new Promise<AppAnswer>((resolve) => {
    let first: AppAnswer | undefined
    child.on('message', (message) => { first ??= message as AppAnswer })
    child.once('close', (code, signal) => {
      resolve(first ?? { problem: `The app ended its process (${signal ?? `status ${code}`}) before it was ready` })
    })
  })
  if ('problem' in answer) throw new UsageError(`\`--app\`: ${answer.problem}`, cannotRun)
  return answer.facts
}
