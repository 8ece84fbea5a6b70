/** The menu: each page of docs/ stands in one group, in the order of a user's questions. */
export const groups: { text: string, pages: [file: string, text: string][] }[] = [
  {
    text: 'Start',
    pages: [
      ['index', 'Introduction'],
      ['new-project', 'A new project'],
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
      ['performance', 'Performance'],
      ['reliability', 'Reliability'],
      ['telemetry', 'Telemetry'],
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
