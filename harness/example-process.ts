import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * Starts a built example as a user does, with this environment alone.
 *
 * @param folder that of the example
 * @param timeout of until(), in milliseconds
 */
export function startExample (t: Test, folder: string, env: Record<string, string>, timeout: number) {
  const child: ChildProcess = spawn(process.execPath, [join(folder, 'dist', 'main.js')], { cwd: folder, env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => { text += chunk })
  const ended = once(child, 'close')
  const output = (): string => text
  const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
    const deadline = Date.now() + timeout
    while (!await holds()) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`it has ended, or takes too long:\n${text}`)
      await sleep(20)
    }
  }
  return { child, ended, output, until }
}
