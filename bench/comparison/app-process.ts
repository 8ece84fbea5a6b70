import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Ask } from './app.ts'
import type { Setup, SubjectName, Use } from './subject.ts'

const program = fileURLToPath(import.meta.resolve('./app.js'))

/** The app of one case, seen from outside. */
export class AppProcess {
  readonly port: number
  readonly #child: ChildProcess
  readonly #errors: string[]
  readonly #answers = new Map<number, (answer: unknown) => void>()
  #asked = 0

  private constructor (child: ChildProcess, errors: string[], port: number) {
    this.#child = child
    this.#errors = errors
    this.port = port
    child.on('message', ({ id, answer }: { id: number, answer: unknown }) => {
      this.#answers.get(id)?.(answer)
      this.#answers.delete(id)
    })
  }

  static async start (name: SubjectName, setup: Setup): Promise<AppProcess> {
    const child = fork(program, [JSON.stringify([name, setup])], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] })
    const errors: string[] = []
    child.stderr!.setEncoding('utf8').on('data', (text: string) => errors.push(text))
    const [{ port }] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => { throw new Error(`the app of ${name} did not start: ${errors.join('')}`) })
    ])
    return new AppProcess(child, errors, port)
  }

  get alive (): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** What it said when it died, in one line, or null while it lives. */
  get crash (): string | null {
    if (this.alive) return null
    const lines = this.#errors.join('').split('\n')
    const thrown = lines.find((line) => /^(?:\w+: |\[?\w*[eE]rror\b)/.test(line)) ?? 'without a word'
    return /node:events|Unhandled 'error' event/.test(lines.join('\n')) ? `'error' event without a listener: ${thrown}` : thrown
  }

  /** The pool as the app sees it; null when the process is gone. */
  async use (): Promise<Use | null> {
    return await this.#ask('use') as Use | null
  }

  /** Resolves when app.close() has, or with null when the process is gone. */
  close (): Promise<unknown> {
    return this.#ask('close')
  }

  async kill (): Promise<void> {
    if (!this.alive) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }

  #ask (what: Ask['what']): Promise<unknown> {
    if (!this.alive || !this.#child.connected) return Promise.resolve(null)
    const id = ++this.#asked
    return new Promise((resolve) => {
      const gone = () => resolve(null)
      this.#child.once('exit', gone)
      this.#answers.set(id, (answer) => {
        this.#child.off('exit', gone)
        resolve(answer)
      })
      this.#child.send({ id, what } satisfies Ask, (error) => { if (error !== null) resolve(null) })
    })
  }
}
