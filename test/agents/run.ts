import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { openRequest, send } from '../../harness/http-client.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { certificate } from '../../harness/server-tls.ts'
import { waitFor } from '../../harness/wait-for.ts'
import { type Agent, agents, type Trace } from './agents.ts'
import { openSink } from './sink.ts'

const postgres = await startTestPostgres(t)
const read = (file: string): string => readFileSync(file, 'utf8')
const secure = { key: read(certificate.replace('.crt', '.key')), cert: read(certificate) }
t.setTimeout(600000)
/** How many requests of each kind. */
const count = 8
/** An agent may send what it has only every few seconds. */
const patience = { timeout: 90000 }

/** What is asked, with the answer, and the names of its operations in alphabetical order. */
const requests = [
  { method: 'GET', path: 'read', status: 200, operations: [/^SELECT$/, /^SELECT$/, /^SELECT$/, /^transaction$/] },
  { method: 'POST', path: 'write', status: 201, operations: [/^INSERT note$/, /^SELECT note$/, /^savepoint$/, /^transaction$/] },
  { method: 'POST', path: 'refused', status: 409, operations: [/^INSERT note$/, /^transaction$/] },
  { method: 'GET', path: 'scope', status: 200, operations: [/^SELECT$/, /^transaction$/] },
  // The agent's own, as it follows pg.
  { method: 'GET', path: 'lease', status: 200, operations: [/SELECT/] },
  { method: 'GET', path: 'stream', status: 200, operations: [/^DECLARE SELECT/, /^FETCH SELECT/, /^transaction$/] },
  { method: 'GET', path: 'unknown', status: 404, operations: [] }
]

interface RunningApp {
  port: number
  /** Asks the app, and returns its answer. */
  ask (what: string): Promise<any>
  /** Resolves to what it has written to stderr, when it has ended with status 0. */
  close (): Promise<string>
}

async function startApp (t: Test, args: string[], env: Record<string, string>): Promise<RunningApp> {
  const database = await postgres.createDatabase()
  await postgres.query('CREATE TABLE note (text text, code int UNIQUE DEFERRABLE INITIALLY DEFERRED)', undefined, database)
  await postgres.query("INSERT INTO note VALUES ('taken', 1)", undefined, database)
  const { NODE_OPTIONS: _options, ...own } = process.env
  const child = spawn(process.execPath, [...args, 'app.js'], {
    cwd: import.meta.dirname,
    env: { ...own, ...env, TEST_DATABASE: database },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'close')
  const errors = text(child.stderr!)
  const lines = createInterface({ input: child.stdout! })
  const port = new Promise<number>((resolve, reject) => {
    lines.on('line', (line) => {
      const listening = /^listening on (\d+)/.exec(line)
      if (listening !== null) resolve(Number(listening[1]))
    })
    ended.then(async ([code]) => reject(new Error(`the app ended with ${code}: ${await errors}`)))
  })
  const ask = async (what: string): Promise<unknown> => {
    const answer = once(child, 'message')
    child.send(what)
    return (await answer)[0]
  }
  return {
    port: await port,
    ask,
    async close () {
      t.same(await ask('close'), { closed: true, openSpans: [] }, 'no span is left open')
      t.same(await ended, [0, null], 'no crash')
      return errors
    }
  }
}

/** Sends requests at once, some of which hang up. */
async function load (t: Test, app: RunningApp): Promise<void> {
  const each = Array.from({ length: count }, (_, n) => n)
  const hangUps = each.map((n) => openRequest(app.port, { path: `/slow/${n}` }))
  const answers = requests.flatMap(({ method, path, status }) => each.map(async (n) => {
    const answer = await send(app.port, { method, path: `/${path}/${n}` })
    t.match(answer, { status, complete: true }, `${path}/${n}`)
  }))
  const sleeping = waitFor(async () => (await postgres.activity()).some(({ query }) => query.includes('pg_sleep')), patience)
  await sleeping
  for (const { socket } of hangUps) socket.destroy()
  await Promise.all(answers)
  await waitFor(async () => (await app.ask('stats')).inUse === 0, patience)
}

function tracesOf (traces: Trace[], method: string, path: string): Trace[] {
  return traces.filter(({ name }) => name === `${method} /${path}/:n`)
}

async function follow (t: Test, agent: Agent): Promise<void> {
  const { port, posted } = await openSink(t, agent.isSecure === true ? secure : null)
  const app = await startApp(t, agent.args, { ...agent.env(port), NODE_EXTRA_CA_CERTS: certificate })
  await load(t, app)
  const routes = requests.filter(({ status }) => status !== 404)
  const isComplete = (): boolean => {
    const traces = agent.traces(posted)
    return routes.every(({ method, path }) => tracesOf(traces, method, path).length >= count)
  }
  await waitFor(isComplete, patience).catch(() => {})
  t.notMatch(await app.close(), /unhandled|uncaught/i)
  await waitFor(isComplete, { timeout: 5000 }).catch(() => {})
  const traces = agent.traces(posted)
  for (const { method, path, status, operations } of routes) {
    const found = tracesOf(traces, method, path)
    t.same(found.map(({ status }) => status), Array(count).fill(status), `${path}: a complete trace of each request`)
    for (const trace of found.filter(({ operations }) => operations !== undefined)) {
      t.equal(trace.operations!.length, operations.length, `${path}: no span twice, and none missing: ${trace.operations}`)
      t.match(trace.operations, operations)
    }
  }
  t.equal(tracesOf(traces, 'GET', 'slow').length, count, 'requests whose client has hung up')
}

const chosen = process.argv.slice(2)
for (const [name, agent] of Object.entries(agents).filter(([name]) => chosen.length === 0 || chosen.includes(name))) {
  t.test(`${name}, loaded first: each request has a complete trace, and nothing fails`, { timeout: 240000 }, (t) => follow(t, agent))
}
