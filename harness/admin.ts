import pg from 'pg'

/** Marks the helper's own connections, so that activity() can leave them out. */
export const adminName = 'test admin'

/** Runs a statement on a connection of its own: a kept one would take one of the server's places. */
export async function queryAsAdmin<Row extends pg.QueryResultRow> (
  connectionString: string, text: string, values: unknown[] | undefined
): Promise<pg.QueryResult<Row>> {
  const client = new pg.Client({ connectionString, application_name: adminName })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.query<Row>(text, values)
  } finally {
    await client.end().catch(() => {})
  }
}
