/** The menu: each page of docs/ stands in one group, in the order of a user's questions. */
export const groups: { text: string, pages: [file: string, text: string][] }[] = [
  {
    text: 'Start',
    pages: [
      ['index', 'Introduction'],
      ['new-project', 'A new project'],
      ['from-fastify-postgres', 'From @fastify/postgres'],
      ['from-hand-written-transactions', 'From hand-written transactions'],
      ['from-knex', 'From a Knex plugin'],
      ['from-express', 'From Express middleware'],
      ['coming-from-sqlalchemy', 'Coming from SQLAlchemy']
    ]
  },
  {
    text: 'Use',
    pages: [
      ['how-a-request-ends', 'How a request ends'],
      ['sessions', 'Sessions'],
      ['options', 'Options'],
      ['retry', 'Retry'],
      ['idempotency', 'Idempotent requests'],
      ['listen-and-lock', 'Notifications and locks'],
      ['testing', 'Testing'],
      ['errors', 'Errors']
    ]
  },
  {
    text: 'Libraries on a session',
    pages: [
      ['kysely', 'Kysely'],
      ['drizzle', 'Drizzle'],
      ['pg', 'Libraries for pg'],
      ['prisma', 'Prisma'],
      ['graphql', 'GraphQL and batches'],
      ['nestjs', 'NestJS']
    ]
  },
  {
    text: 'Run',
    pages: [
      ['pool', 'The pool'],
      ['pgbouncer', 'PgBouncer'],
      ['poolers', 'Other poolers'],
      ['engines', 'Other engines'],
      ['runtimes', 'Runtimes and module systems'],
      ['doctor', 'The doctor'],
      ['performance', 'Performance'],
      ['reliability', 'Reliability'],
      ['security', 'Security'],
      ['telemetry', 'Telemetry'],
      ['inspector', 'Inspector'],
      ['replicas', 'Replicas'],
      ['failover', 'Several hosts and failover'],
      ['benchmark', 'Benchmark']
    ]
  },
  {
    text: 'Understand',
    pages: [
      ['comparison', 'Comparison'],
      ['refused-on-purpose', 'Refused on purpose'],
      ['architecture', 'Architecture'],
      ['decisions', 'Decisions'],
      ['contributing', 'Contributing'],
      ['changelog', 'Changelog']
    ]
  }
]

/** Pages of the repository that are not in docs/, by the name that the site gives them. */
export const elsewhere: Record<string, string> = {
  index: 'README.md', contributing: 'CONTRIBUTING.md', changelog: 'CHANGELOG.md'
}
