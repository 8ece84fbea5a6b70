import type { BadDay } from '../event.ts'

export const servers: BadDay[] = [
  {
    name: 'PostgreSQL restarted, fast',
    meaning: 'A planned restart: the server ends the connections in good order and comes back. Open transactions are lost (503). While it is away requests are refused at once; PgBouncer goes on with that for `server_login_retry` after a login that failed (1 s in docs/pgbouncer.ini).',
    where: 'everywhere',
    cost: 'some requests',
    isSudden: true,
    run: ({ server }) => server.restart('fast')
  },
  {
    name: 'PostgreSQL restarted, immediate',
    meaning: 'Like a crash: the server recovers from its log. A COMMIT that was under way is answered with 500 FST_PG_SCOPE_COMMIT_UNKNOWN, since its outcome cannot be known. With `fsync` and `synchronous_commit` on, the defaults, no acknowledged work is lost.',
    where: 'everywhere',
    cost: 'some requests',
    isSudden: true,
    run: ({ server }) => server.restart('immediate')
  },
  {
    name: 'PostgreSQL restarted between requests',
    meaning: 'As above, fast, at a moment without traffic. Only unused connections break, and they are replaced when the next requests come. Nothing to set.',
    where: 'everywhere',
    cost: 'no request',
    async run ({ server, load }) {
      await load.hold()
      await server.restart('fast')
      load.resume()
    }
  },
  {
    name: 'PostgreSQL restarted during a PAUSE',
    meaning: 'How to restart on purpose behind PgBouncer: `PAUSE` waits for the open transactions, new ones wait for `RESUME`. It has to be over within `query_wait_timeout` (10 s in docs/pgbouncer.ini), `pool.acquireTimeout` for those who wait in the app (3 s here), and `answerTimeout`.',
    where: 'behind PgBouncer',
    cost: 'no request',
    isSudden: true,
    async run ({ pgBouncer, server }) {
      await pgBouncer!.pause()
      await server.restart('fast')
      await pgBouncer!.resume()
    }
  }
]
