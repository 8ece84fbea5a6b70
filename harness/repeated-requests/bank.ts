import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort } from '../pgbouncer/port.ts'
import { typeScript } from '../typescript.ts'

export const schema = `
  CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
  INSERT INTO account SELECT id, 1000 FROM generate_series(1, 8) AS id;
  CREATE TABLE ledger (transfer text NOT NULL);`

/** The app as a process. It has the same port after each start. */
export class BankProcess {
  readonly port: number
  readonly #url: string
  #child: ChildProcess | null = null

  static async open (connectionString: string): Promise<BankProcess> {
    const bank = new BankProcess(connectionString, await freePort())
    await bank.start()
    return bank
  }

  private constructor (url: string, port: number) {
    this.#url = url
    this.port = port
  }

  async start (): Promise<void> {
    const extension = extname(import.meta.url)
    const file = fileURLToPath(new URL(`./bank-process${extension}`, import.meta.url))
    const child = spawn(process.execPath, [...(extension === '.ts' ? typeScript : []), file], {
      env: { PATH: process.env.PATH, BANK_URL: this.#url, BANK_PORT: String(this.port) },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc']
    })
    this.#child = child
    const [message] = await Promise.race([once(child, 'message'), once(child, 'exit')])
    if (message !== 'listening') throw new Error(`the bank has ended: ${message}`)
  }

  async kill9 (): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}
