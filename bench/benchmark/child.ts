import { type ChildProcess, fork } from 'node:child_process'
import { on, once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { typeScript } from '../../harness/typescript.ts'

/** Milliseconds that a program has to end. */
const patience = 5000

/**
 * Compiled it is JavaScript, and as the tests run it, it is not. What a test runner loads into the tests is not for
 * the programs.
 */
const extension = import.meta.url.slice(-3)
const loaders = extension === '.ts' ? typeScript : process.execArgv

/** A program of this folder in a process of its own, which says what it has to say in messages. */
export class Child {
  readonly #name: string
  readonly #process: ChildProcess
  readonly #messages: NodeJS.AsyncIterator<any[]>

  private constructor (name: string, process: ChildProcess) {
    this.#name = name
    this.#process = process
    this.#messages = on(process, 'message', { close: ['exit'] })
  }

  /** Resolves with its first message, by which it says that it is ready. */
  static async start<T> (name: string, argument: unknown, execArgv: readonly string[] = []): Promise<[Child, T]> {
    const file = fileURLToPath(new URL(`./${name}${extension}`, import.meta.url))
    const child = new Child(name, fork(file, [JSON.stringify(argument)], { execArgv: [...loaders, ...execArgv] }))
    return [child, await child.next<T>()]
  }

  /** The next message, which may have come already. */
  async next<T> (): Promise<T> {
    const { done, value } = await this.#messages.next()
    if (done) throw new Error(`${this.#name}.ts ended by itself`)
    return value[0]
  }

  send (message: unknown): void {
    this.#process.send(message as object)
  }

  async ask<T> (message: unknown): Promise<T> {
    this.send(message)
    return await this.next<T>()
  }

  /** It ends by itself when nobody listens any more, as a profile is written at the end; who hangs is ended. */
  async stop (): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exit = once(this.#process, 'exit')
    const kill = setTimeout(() => this.#process.kill('SIGKILL'), patience)
    this.#process.disconnect()
    await exit
    clearTimeout(kill)
  }
}
