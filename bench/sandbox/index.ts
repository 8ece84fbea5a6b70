// How many tests a second run with a sandbox, with truncated tables and with a server for each file: docs/testing.md
// has the figures.
import Fastify, { type FastifyInstance } from 'fastify'
import { pgScope } from '../../lib/index.ts'
import { startPostgres } from '../../lib/embedded/index.ts'
import { openSandbox } from '../../lib/testing/index.ts'

/** The tables of the app, each with a key, an index and a reference to the one before. */
const tables = 12
/** Tests in one file. */
const testsInFile = 20
const rounds = 5
const duration = 2000

const schema = Array.from({ length: tables }, (_, i) => `CREATE TABLE t${i} (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL${i === 0 ? '' : `, parent int REFERENCES t${i - 1}`}
); CREATE INDEX ON t${i} (name)`).join(';')
const truncate = `TRUNCATE ${Array.from({ length: tables }, (_, i) => `t${i}`).join(', ')} RESTART IDENTITY`

async function openApp (connectionString: string): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(pgScope, { connectionString })
  app.post('/things', async (request) => {
    const { rows: [{ id }] } = await request.db.query('INSERT INTO t0 (name) VALUES ($1) RETURNING id', ['a'])
    await request.db.query('INSERT INTO t1 (name, parent) VALUES ($1, $2)', ['b', id])
    return { id }
  })
  app.get('/things', async (request) => (await request.db.query('SELECT * FROM t0 JOIN t1 ON t1.parent = t0.id')).rows)
  await app.ready()
  return app
}

/** Two requests: one writes, the other reads. */
async function test (app: FastifyInstance): Promise<void> {
  await app.inject({ method: 'POST', url: '/things' })
  const { length } = (await app.inject('/things')).json()
  if (length !== 1) throw new Error(`a test has seen ${length} rows`)
}

/** Tests a second. */
async function measure (app: FastifyInstance, clean: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  let count = 0
  while (performance.now() - start < duration) {
    await test(app)
    await clean()
    count++
  }
  return count * 1000 / (performance.now() - start)
}

/** Tests a second if each file of tests starts a server of its own. */
async function measureServers (): Promise<number> {
  const start = performance.now()
  const postgres = await startPostgres()
  const app = await openApp(postgres.connectionString)
  await app.db.query(schema)
  for (let i = 0; i < testsInFile; i++) {
    await test(app)
    await app.db.query(truncate)
  }
  await app.close()
  await postgres.stop()
  return testsInFile * 1000 / (performance.now() - start)
}

/** The same with a server that all files share: each file opens an app and a sandbox. */
async function measureFiles (connectionString: string): Promise<number> {
  const start = performance.now()
  const app = await openApp(connectionString)
  const sandbox = await openSandbox(app)
  for (let i = 0; i < testsInFile; i++) {
    await test(app)
    await sandbox.rollback()
  }
  await app.close()
  return testsInFile * 1000 / (performance.now() - start)
}

const middle = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!
const results: Record<string, number[]> = {}
const add = (name: string, figure: number): void => { (results[name] ??= []).push(figure) }

for (const durable of [false, true]) {
  const kind = durable ? 'fsync on' : 'fsync off'
  const postgres = await startPostgres({ durable })
  const app = await openApp(postgres.connectionString)
  await app.db.query(schema)
  for (let round = 0; round < rounds; round++) {
    add(`truncated tables, ${kind}`, await measure(app, () => app.db.query(truncate)))
    await app.db.query(truncate)
    const sandbox = await openSandbox(app)
    add(`sandbox, ${kind}`, await measure(app, () => sandbox.rollback()))
    await sandbox.close()
    if (!durable) {
      add(`a file of ${testsInFile} tests, sandbox`, await measureFiles(postgres.connectionString))
      add(`a file of ${testsInFile} tests, server of its own`, await measureServers())
    }
  }
  await app.close()
  await postgres.stop()
}

console.log('| how tests begin with the same rows | tests a second |\n|---|---|')
for (const [name, figures] of Object.entries(results)) console.log(`| ${name} | ${middle(figures).toFixed(1)} |`)
