import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { copyFile, readdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { temporaryFolder } from '../../harness/folders.ts'
import { startTestPostgres, type TestPostgres } from '../../harness/postgres.ts'
import { waitFor } from '../../harness/wait-for.ts'
import { install, pack } from '../package/tarball.ts'
import { areInstalled } from './ready.ts'

t.setTimeout(300_000)
const permissions = ['--allow-net', '--allow-env', '--allow-read', '--allow-sys']
/** What each package of this folder runs, and with which arguments: those of docs/runtimes.md. */
const runtimes: Record<string, { packages: string, program: RegExp, args: string[] }> = {
  Node: { packages: '', program: /./, args: [] },
  Bun: { packages: '@oven', program: /(^|\/)bun$/, args: [] },
  Deno: { packages: '@deno', program: /(^|\/)deno$/, args: ['run', ...permissions] }
}

if (areInstalled(t)) {
  const folder = await temporaryFolder(t)
  await install(await pack(folder), folder, ['fastify'])
  await copyFile(join(import.meta.dirname, 'runtimes/app.js'), join(folder, 'app.js'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  const postgres = await startTestPostgres(t)
  for (const [name, { packages, program, args }] of Object.entries(runtimes)) {
    t.test(`an app on ${name} commits, rolls back, streams, nests transactions, cancels and closes`, async (t) => {
      const path = packages === '' ? process.execPath : await find(packages, program)
      await tryApp(t, postgres, folder, [path, ...args, 'app.js'])
    })
  }
}

/** The program of the package for this platform. */
async function find (scope: string, name: RegExp): Promise<string> {
  const folder = join(import.meta.dirname, 'node_modules', scope)
  const files = existsSync(folder) ? await readdir(folder, { recursive: true }) : []
  const found = files.find((file) => name.test(file))
  if (found === undefined) throw new Error(`There is no program ${name} in ${folder}`)
  return join(folder, found)
}

async function tryApp (t: Test, postgres: TestPostgres, folder: string, [program, ...args]: string[]): Promise<void> {
  const database = await postgres.createDatabase()
  const query = (text: string) => postgres.query(text, undefined, database)
  await query('CREATE TABLE person (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE)')
  const people = async (): Promise<string[]> => (await query('SELECT name FROM person ORDER BY id')).rows.map(({ name }) => name)

  const { NODE_OPTIONS: _hooks, TAP: _tap, ...env } = process.env
  const app = spawn(program!, args, { cwd: folder, env: { ...env, DATABASE_URL: database } })
  t.teardown(() => app.kill('SIGKILL'))
  let output = ''
  for (const stream of [app.stdout, app.stderr]) stream.on('data', (chunk) => { output += chunk })
  const url = await waitFor(() => {
    const found = /open at (\S+)/.exec(output)
    if (found === null) throw new Error(output)
    return found[1]
  }, { timeout: 60_000 })
  const ask = async (method: string, path: string) => await fetch(url + path, { method })
  const inUse = async (): Promise<number> => (await (await ask('GET', '/stats')).json() as { inUse: number }).inUse

  t.equal((await ask('POST', '/people/Ada')).status, 201, 'a success')
  t.equal((await ask('POST', '/people/Bea?fail')).status, 500, 'an error')
  t.equal((await ask('POST', '/people/Ada')).status, 500, 'a constraint')
  t.same(await people(), ['Ada'], 'a success is committed, an error is not')

  t.equal((await ask('POST', '/nested/Grace')).status, 200)
  t.same(await people(), ['Ada', 'Grace', 'Grace inside'], 'transaction(fn) is kept or undone alone')

  t.same(await (await ask('GET', '/page')).json(), [1, 2, 3])

  const lines = (await (await ask('GET', '/stream')).text()).split('\n').slice(0, -1)
  t.same([lines.length, JSON.parse(lines.at(-1)!).n], [20_000, 20_000], 'a stream is complete')

  const { hostname, port } = new URL(url)
  const running = async (): Promise<number> =>
    (await postgres.activity()).filter(({ state, query }) => state === 'active' && query.includes('pg_sleep')).length
  const socket = connect(Number(port), hostname)
  socket.write('POST /slow/gone HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n')
  await waitFor(running, { message: 'the statement runs' })
  socket.destroy()
  await waitFor(async () => await running() === 0, { message: 'the statement of a client that hung up is canceled' })
  await waitFor(async () => await inUse() === 0, { message: 'its connection is back' })

  // It is read and given up in the middle.
  const stream = connect(Number(port), hostname)
  stream.write('GET /stream HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(stream, 'data')
  stream.destroy()
  await waitFor(async () => await inUse() === 0, { message: 'its connection is back' })

  t.equal((await ask('POST', '/people/Last')).status, 201)
  t.same(await people(), ['Ada', 'Grace', 'Grace inside', 'Last'], 'what a client left is rolled back')

  app.kill('SIGTERM')
  t.same(await once(app, 'close'), [0, null], output)
  t.match(output, /closed\n$/)
  t.equal((await postgres.activity()).filter(({ datname }) => database.endsWith(datname)).length, 0, 'nothing stays open')
}
