import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Answer {
  /** 0 where there was none. */
  status: number
  code: string
  retryAfter: string | undefined
  /** performance.now() when it was asked for, and when it had come. */
  sent: number
  received: number
}

/** Clients on keep-alive sockets, as many as there are requests under way. */
export class Load {
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: Infinity })
  readonly #port: number

  constructor (port: number) {
    this.#port = port
  }

  send (): Promise<Answer> {
    const sent = performance.now()
    return new Promise((resolve) => {
      const answer = (status: number, body = '', retryAfter?: string): void => resolve({ status, code: /"code":"([^"]*)"/.exec(body)?.[1] ?? '', retryAfter, sent, received: performance.now() })
      get({ port: this.#port, host: '127.0.0.1', agent: this.#agent }, (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => { body += text })
        response.on('end', () => answer(response.statusCode!, body, response.headers['retry-after']))
        response.on('error', () => answer(0))
      }).on('error', () => answer(0))
    })
  }

  /** Open loop: so many requests a second, whether earlier ones are answered or not. */
  async atRate (rate: number, milliseconds: number): Promise<Answer[]> {
    const answers: Promise<Answer>[] = []
    const start = performance.now()
    for (let passed = 0; passed < milliseconds; passed = performance.now() - start) {
      // A timer that comes late catches up.
      while (answers.length < passed / 1000 * rate) answers.push(this.send())
      await sleep(1)
    }
    return await Promise.all(answers)
  }

  /** Closed loop: so many clients, each of which waits for its answer. */
  async byClients (clients: number, milliseconds: number): Promise<Answer[]> {
    const answers: Answer[] = []
    const end = performance.now() + milliseconds
    await Promise.all(Array.from({ length: clients }, async () => {
      while (performance.now() < end) answers.push(await this.send())
    }))
    return answers
  }

  /** All at once. */
  async burst (count: number): Promise<Answer[]> {
    return await Promise.all(Array.from({ length: count }, () => this.send()))
  }

  close (): void {
    this.#agent.destroy()
  }
}
