import pg from 'pg'

/** SHOW POOLS of PgBouncer's console, or why it cannot be shown. */
export type ShownPools = { rows: Record<string, unknown>[] } | { error: string }

/** How long an answer is shown before the console is asked again. Milliseconds. */
const freshFor = 2000
const timeout = 2000

/** Asks PgBouncer's console (https://www.pgbouncer.org/usage.html#show-pools), which users in stats_users may. */
export class PgBouncerPools {
  readonly #connectionString: string
  #answer: Promise<ShownPools> | null = null
  #since = 0

  constructor (connectionString: string) {
    this.#connectionString = connectionString
  }

  read (): Promise<ShownPools> {
    const now = performance.now()
    if (this.#answer === null || now - this.#since > freshFor) {
      this.#since = now
      this.#answer = this.#ask().catch((error) => ({ error: String(error.code ?? error.name) }))
    }
    return this.#answer
  }

  async #ask (): Promise<ShownPools> {
    const client = new pg.Client({
      connectionString: this.#connectionString, connectionTimeoutMillis: timeout, query_timeout: timeout
    })
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query('SHOW POOLS')
      return { rows }
    } finally {
      await client.end().catch(() => {})
    }
  }
}
