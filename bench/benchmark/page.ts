import type { Results } from './results.ts'
import { allocationTable, floorTable, scalingTable, tables, targetTable } from './table.ts'
import { targetsOf } from './targets.ts'

/** The tables of what was measured, with a heading for each. */
export function figures (results: Results): string {
  const { measured, allocations, scalings, floors } = results
  const targets = targetsOf(results)
  return [
    targets.length > 0 && `## What was to be reached\n\n${targetTable(targets)}`,
    measured.length > 0 && `## What was measured\n\n${tables(results)}`,
    allocations.length > 0 && `## Bytes allocated for a request\n\n${allocationTable(allocations)}`,
    scalings.length > 0 && `## More routes, more waiting requests\n\n${scalingTable(scalings)}`,
    floors.length > 0 && `## What the wire and PostgreSQL allow\n\n${floorTable(floors, measured)}`
  ].filter((part) => part !== false).join('\n\n')
}

/** docs/benchmark.md: what was measured, how, and what it does not say. */
export function page (results: Results): string {
  const { rounds, seconds, cores, versions, delays, missing, command } = results.about
  const measuredDelays = delays.map(({ measured }) => measured)
  return `<!-- Written by \`npm run bench -- --write\`. Change bench/benchmark, not this page. -->
# Measured: a transaction for each request, and what it costs

The same routes behind several ways to put PostgreSQL under Fastify, one transaction for each request where nothing else is said, all
of them measured in one run. It is about speed; docs/comparison.md is about what becomes of a request when something happens to it.

![Requests a second, as multiples of pg by hand](speed.svg)

The figures are those of one machine with ${cores} cores, on which the app, the load, PostgreSQL and the proxy all run: the ratios say more than the
absolute figures. In brackets stand the smallest and the largest ratio of all rounds; where they lie far apart, the machine was busy.

${figures(results)}

## How it was measured

- Each way is an app in a process of its own, started anew for each setting, with a pool of 10 connections, without a logger and without
  schemas. They take turns: for each workload the first round of each, then the second round of each, and so on, so that what slows the
  machine for a while slows all of them.
- "No database" is measured in five processes of each way, one after the other, and the latency at 5 connections in three: what memory a
  process happens to get makes more of a difference there than what is compared. They have twice the rounds in all.
- A round is ${seconds} s of load by autocannon in a process of its own (keep-alive, no pipelining), after 0.25 s that do not count. There are
  ${rounds} rounds, fewer for the settings beside the main one; the tables show medians. A ratio is the median of the ratios of rounds that were run one
  after the other. The status of every answer is checked and the body of some; after a round of writes there must be as
  many rows as answers. Otherwise the run fails.
- **CPU** is what the app's process took for a request, in microseconds: all of its threads, garbage collection included.
- **Round trips** are those of one request without others beside it, counted in a run of its own by a proxy that reads the protocol, once
  connections are open and statements known. How long a connection is held is another matter.
- **2 ms** are made by a proxy that delays what crosses it by one millisecond each way${measuredDelays.length === 0 ? '' : ` (a \`SELECT 1\` took ${range(measuredDelays)} ms more)`}. 0 ms is loopback.
- **Bytes allocated**: 1,000 requests of 50 clients in a process whose nursery is so large that nothing is collected meanwhile, so that what
  V8's heap has grown by is what was allocated, HTTP included. A round with a collection would be refused. Median of 5 rounds.
- **More routes, more waiting requests**: one read, from 1 to 1,000 registered routes at 50 connections, and from 20 to 1,010 connections
  on the pool of 10. Of the growth, the microseconds by which it is more than that of pg by hand are judged: more sockets, and more requests in
  memory, cost HTTP and pg the same.
- **pgbench** runs the same statements on 10 connections, prepared, without HTTP: BEGIN and COMMIT each in a round trip of its own, and
  all in one.
- PostgreSQL does not wait for the disk (\`fsync\` and \`synchronous_commit\` are off). With a disk, COMMIT takes longer for all of them.
- 10,000 accounts; each request chooses one at random, so that they seldom wait for each other's row.

## How each was used

- **pg by hand**: [node-postgres' page on transactions](https://node-postgres.com/features/transactions): connect, BEGIN, try, COMMIT, catch, ROLLBACK, release, with what a careful
  author adds (bench/by-hand.ts). Settings and timeout take one statement more; the five reads follow one another, as a client
  of pg is not meant to be asked twice at a time. Autocommit is \`pool.query\`.
- **@fastify/postgres**: the route option \`transact\`; READ ONLY takes a statement more. Autocommit is \`app.pg.query\`.
- **postgres.js**: \`sql.begin\`. It prepares statements by itself and sends the five reads behind each other.
- **Kysely**, **Drizzle**: their transactions on pg's pool, the five reads one after the other.
- **fastify-pg-scope**: \`request.db.query\`; \`readOnly\`, \`mode\`, \`settings\` and \`statementTimeout\` as route options. The five reads under
  \`Promise.all\`.
- **FastAPI + SQLAlchemy**: a dependency with yield that commits at its end, on asyncpg, one uvicorn worker. FastAPI runs what stands
  behind the yield after the answer has left, in the version that was measured: its clients do not wait for COMMIT.
- Every client but that one's gets its answer after COMMIT; fastify-pg-scope does not wait for it where the transaction is READ ONLY.
- "Its worst workload" is the smallest ratio among those with a transaction: autocommit is neither \`transact\` nor \`sql.begin\`.

## Run it

\`\`\`sh
npm ci
npm run bench                         # some 20 minutes on an idle machine; prints the tables
npm run bench -- --help               # some of it: subjects, workloads, delays, poolers, connections, rounds
npm run bench -- --write              # writes this page and its chart
\`\`\`

It starts its own PostgreSQL on 127.0.0.1 and removes it at the end. PgBouncer, FastAPI and pgbench are measured where they are
installed (\`.ci/poolers\`; Debian's python3-fastapi, python3-sqlalchemy, python3-asyncpg and uvicorn; postgresql-contrib)${missing.length === 0 ? '' : `; here were not: ${missing.join(', ')}`}.

Measured by \`${command}\` with ${versions.join(', ')}.
`
}

const range = (values: readonly number[]): string => {
  const [least, most] = [Math.min(...values).toFixed(2), Math.max(...values).toFixed(2)]
  return least === most ? least : `${least} to ${most}`
}
