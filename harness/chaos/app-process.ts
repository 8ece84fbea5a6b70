import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { send } from '../http-client.ts'
import { typeScript } from '../typescript.ts'
import type { Health } from './app.ts'

const isTypeScript = import.meta.url.endsWith('.ts')
const program = fileURLToPath(new URL(isTypeScript ? './app.ts' : './app.js', import.meta.url))

/** How long app.close() may take. Milliseconds. */
const patience = 20_000

/** The app, in a process that is killed and started again on the same port. */
export class AppProcess {
  readonly port: number
  /** What went wrong with the process itself, in words. */
  readonly failures: string[] = []
  readonly #connectionString: string
  #child: ChildProcess | null = null

  constructor (connectionString: string, port: number) {
    this.#connectionString = connectionString
    this.port = port
  }

  async start (): Promise<void> {
    const child = fork(program, [JSON.stringify({ connectionString: this.#connectionString, port: this.port })], {
      execArgv: ['--expose-gc', ...isTypeScript ? typeScript : []], stdio: ['ignore', 'inherit', 'inherit', 'ipc']
    })
    this.#child = child
    const ended = once(child, 'exit').then(([code, signal]) => String(signal ?? `exit code ${code}`))
    await Promise.race([once(child, 'message'), ended.then((how) => { throw new Error(`the app did not start: ${how}`) })])
    ended.then((how) => { if (this.#child === child) this.failures.push(`it ended by itself: ${how}`) })
  }

  /** SIGKILL, or SIGTERM for app.close(). Resolves when it is gone. */
  async end (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    const outcome = await Promise.race([gone, sleep(patience, 'late', { ref: false })])
    if (outcome !== 'late') return
    this.failures.push(`app.close() did not end within ${patience} ms`)
    child.kill('SIGKILL')
    await gone
  }

  async health (): Promise<Health> {
    return JSON.parse((await send(this.port, { path: '/health' })).body)
  }
}
