import pg from 'pg'

/** More than any server here has connections. */
const most = 60

export interface Hogs {
  /** So many of them leave, or all. */
  leave (count?: number): Promise<void>
}

/** Takes every connection that is left. */
export async function takeAllConnections (connectionString: string): Promise<Hogs> {
  const clients: pg.Client[] = []
  const leave = async (count = clients.length): Promise<void> => {
    await Promise.all(clients.splice(0, count).map((client) => client.end()))
  }
  while (clients.length < most) {
    const client = new pg.Client({ connectionString, application_name: 'hog' })
    client.on('error', () => {})
    try {
      await client.connect()
    } catch (error) {
      if (/too many clients|no more connections|reserved/.test((error as Error).message)) return { leave }
      throw error
    }
    clients.push(client)
  }
  await leave()
  throw new Error(`the server has more than ${most} connections`)
}
