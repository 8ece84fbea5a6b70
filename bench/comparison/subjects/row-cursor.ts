import { Readable } from 'node:stream'
import type pg from 'pg'

/**
 * Rows as NDJSON in constant memory, for those who hold the client themselves: given back also when the reader goes
 * away.
 */
export function rowsByCursor (connect: () => Promise<pg.PoolClient>, text: string): Readable {
  return Readable.from(lines(connect, text))
}

async function * lines (connect: () => Promise<pg.PoolClient>, text: string): AsyncGenerator<string> {
  const client = await connect()
  let end = 'ROLLBACK'
  try {
    await client.query('BEGIN')
    await client.query(`DECLARE c NO SCROLL CURSOR FOR ${text}`)
    for (;;) {
      const { rows } = await client.query('FETCH 500 FROM c')
      if (rows.length === 0) break
      for (const row of rows) yield `${JSON.stringify(row)}\n`
    }
    end = 'COMMIT'
  } finally {
    let broken = false
    await client.query(end).catch(() => { broken = true })
    client.release(broken)
  }
}
