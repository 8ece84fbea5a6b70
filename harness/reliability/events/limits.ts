import { setTimeout as sleep } from 'node:timers/promises'
import { waitFor } from '../../wait-for.ts'
import type { BadDay, Day } from '../event.ts'
import { takeAllConnections } from '../hogs.ts'

/** How many connections the app and its pooler find where they are not quite all taken. */
const some = 2

/** So that the app has none of its own when the others come. */
const options = { pool: { idleTimeout: 50 } }

/** Others take all connections but so many for a while, and the load wants some. */
async function crowd ({ app, server, pgBouncer, load }: Day, connectionString: string, left: number): Promise<void> {
  await load.hold()
  await pgBouncer?.reconnect()
  await waitFor(async () => app.db.stats().open + await server.backends() === 0)
  const { leave } = await takeAllConnections(connectionString)
  await leave(left)
  load.resume()
  await sleep(700)
  await leave()
}

const door = (day: Day): string => day.connectionString
const server = (day: Day): string => day.server.connectionString

export const limits: BadDay[] = [
  {
    name: 'max_connections reached, two connections are left',
    meaning: 'Other programs hold nearly all that PostgreSQL has, and the pool cannot grow to `pool.max`. Requests that wait are served by the connections that there are. Nothing to set for that; but processes times `pool.max`, or the sum of PgBouncer\'s pools, have to stay below `max_connections`.',
    where: 'everywhere',
    cost: 'no request',
    options,
    run: (day) => crowd(day, server(day), some)
  },
  {
    name: 'max_connections reached, none is left',
    meaning: 'The same to the last connection. No request can be served; each waits for a connection until `pool.acquireTimeout`, or is refused: 503.',
    where: 'everywhere',
    cost: 'some requests',
    options,
    run: (day) => crowd(day, server(day), 0)
  },
  {
    name: 'max_client_conn reached, two connections are left',
    meaning: 'The same at PgBouncer\'s door. `max_client_conn` has to be above processes times `pool.max`, twice that during a deployment.',
    where: 'behind PgBouncer',
    cost: 'no request',
    options,
    settings: { max_client_conn: 20 },
    run: (day) => crowd(day, door(day), some)
  },
  {
    name: 'max_client_conn reached, none is left',
    meaning: 'The same to the last connection.',
    where: 'behind PgBouncer',
    cost: 'some requests',
    options,
    settings: { max_client_conn: 20 },
    run: (day) => crowd(day, door(day), 0)
  }
]
