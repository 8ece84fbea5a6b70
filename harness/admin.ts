import pg from 'pg'

/** Marks the helper's own connections, so that activity() can leave them out. */
export const adminName = 'test admin'

/**
 * The helper's connections to a server. A new one costs the server far more than a statement does, so they are
 * kept, in the state of a new one, and replaced when the server has ended them.
 */
export class Admin {
  readonly #connectionString: string
  readonly #keeps: boolean
  #idle: pg.Client[] = []

  /** @param keeps false for a test that counts the server's connections: a kept one takes a place */
  constructor (connectionString: string, keeps = true) {
    this.#connectionString = connectionString
    this.#keeps = keeps
  }

  async query<Row extends pg.QueryResultRow> (
    text: string, values: unknown[] | undefined
  ): Promise<pg.QueryResult<Row>> {
    const client = await this.#take()
    let clean = false
    try {
      const result = await client.query<Row>(text, values)
      clean = this.#keeps && await succeeds(client, 'DISCARD ALL')
      return result
    } finally {
      if (clean) this.#idle.push(client)
      else await client.end().catch(() => {})
    }
  }

  async close (): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((client) => client.end().catch(() => {})))
  }

  async #take (): Promise<pg.Client> {
    for (let client = this.#idle.pop(); client !== undefined; client = this.#idle.pop()) {
      if (await succeeds(client, '')) return client
      await client.end().catch(() => {})
    }
    return await connect(this.#connectionString)
  }
}

async function succeeds (client: pg.Client, text: string): Promise<boolean> {
  return await client.query(text).then(() => true, () => false)
}

async function connect (connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString, application_name: adminName })
  client.on('error', () => {})
  await client.connect()
  return client
}
