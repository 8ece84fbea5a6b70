import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { typeScript } from '../../harness/typescript.ts'

const folder = fileURLToPath(new URL('../../examples/starter', import.meta.url))
const pattern = /curl (\S+)(?: -H 'content-type: application\/json' -d '(.*)')?/g

t.test('the server shows what to try, and leaves nothing behind', async t => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await t.test(signal, async t => {
      const server = start(t, { PORT: '0' })
      const output = await server.until(/Ctrl-C closes it/)
      const { dataFolder } = JSON.parse(output.split('\n').find(line => line.includes('dataFolder')) ?? '{}')
      // Its first line is the server's process: https://www.postgresql.org/docs/18/storage-file-layout.html
      const pid = parseInt(await readFile(join(dataFolder, 'postmaster.pid'), 'utf8'))
      t.ok(alive(pid))

      const readme = commands(await readFile(join(folder, 'README.md'), 'utf8'))
      t.same(readme.map(path), commands(output).map(path), 'the README shows the same')
      const answers = await tryAll(output)
      t.same(answers.map(({ status }) => status), [201, 201, 201, 409, 200, 200, 200])
      t.match(answers[4]?.body, /"balance":7500/)
      t.match(answers[5]?.body, /^\{"id":1,"from":1,"to":2,"amount":2500,.*\}\n$/)

      server.child.kill(signal)
      // npm passes on what the terminal has sent to all.
      server.child.kill(signal)
      t.same(await server.ended, [0, null])
      t.notOk(alive(pid), 'the database has ended')
      t.notOk(existsSync(dirname(dataFolder)), 'and its folder is gone')
      t.notMatch(server.output(), /"level":50/)
    })
  }
})

t.test('the server says what it does before it waits for PostgreSQL', async t => {
  const server = start(t, { PORT: '0' })
  const output = await server.until(/Ctrl-C closes it/)
  const steps = ['Starting the bank', 'starting PostgreSQL in a temporary folder', 'PostgreSQL accepts connections', 'The bank is open at']
  const places = steps.map((step) => output.indexOf(step))
  t.notOk(places.includes(-1), output)
  t.same(places, [...places].sort((a, b) => a - b))
  server.child.kill('SIGTERM')
  t.same(await server.ended, [0, null])
})

t.test('a named data folder is kept, and found again', async t => {
  const parent = mkdtempSync(join(tmpdir(), 'bank-'))
  t.teardown(() => rmSync(parent, { recursive: true, force: true }))
  execFileSync('chmod', ['0755', parent])
  const env = { PORT: '0', DATA_FOLDER: join(parent, 'data') }
  const first = start(t, env)
  await tryAll(await first.until(/Ctrl-C closes it/))
  first.child.kill('SIGTERM')
  t.same(await first.ended, [0, null])
  const second = start(t, env)
  const [url] = commands(await second.until(/Ctrl-C closes it/))
  const response = await fetch(new URL('/accounts/1', url?.url))
  t.match(await response.json(), { owner: 'Ada', balance: 7500 })
  second.child.kill('SIGTERM')
  t.same(await second.ended, [0, null])
})

t.test('what keeps it from running is said in a line, and it leaves nothing behind', async t => {
  const temporary = mkdtempSync(join(tmpdir(), 'bank-'))
  t.teardown(() => rmSync(temporary, { recursive: true, force: true }))
  execFileSync('chmod', ['1777', temporary])
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const cases: Array<[string, Record<string, string>, RegExp]> = [
    ['a port that is taken', { PORT: String((taken.address() as AddressInfo).port) }, /cannot run: .*EADDRINUSE[^]*Choose one with PORT/],
    ['a port that is none', { PORT: 'http' }, /cannot run: .*env\/PORT must be integer/],
    ['a server that does not answer', { PORT: '0', DATABASE_URL: 'postgres://bank:secret@127.0.0.1:1/bank' }, /cannot run: .*127\.0\.0\.1:1/]
  ]
  for (const [name, env, said] of cases) {
    const server = start(t, { ...env, TMPDIR: temporary })
    t.same(await server.ended, [1, null], name)
    t.match(server.output(), said)
    t.notMatch(server.output(), 'secret')
    t.same(readdirSync(temporary), [])
  }
})

t.test('interrupted while it starts, it leaves nothing behind either', async t => {
  const temporary = mkdtempSync(join(tmpdir(), 'bank-'))
  t.teardown(() => rmSync(temporary, { recursive: true, force: true }))
  execFileSync('chmod', ['1777', temporary])
  for (const wait of [500, 1000, 1500]) {
    const server = start(t, { PORT: '0', TMPDIR: temporary })
    await Promise.race([sleep(wait), server.ended])
    server.child.kill('SIGINT')
    await server.ended
    // What cleans up outlives the process for a moment.
    for (let tries = 0; readdirSync(temporary).length > 0 && tries < 500; tries++) await sleep(20)
    t.same(readdirSync(temporary), [])
  }
})

function start (t: { teardown (callback: () => unknown): unknown }, env: Record<string, string>) {
  const { DATABASE_URL, DATA_FOLDER, LOG_LEVEL, HOST, NODE_OPTIONS, ...rest } = process.env
  // Without the compiler that the app's own script loads on an old Node: test/package runs that.
  const child: ChildProcess = spawn(process.execPath, [...typeScript, 'src/server.ts'], {
    cwd: folder, env: { ...rest, ...env }, stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', chunk => { output += chunk })
  const ended = once(child, 'close')
  const until = async (wanted: RegExp): Promise<string> => {
    while (!wanted.test(output)) {
      if (child.exitCode !== null) throw new Error(`it ended:\n${output}`)
      await sleep(20)
    }
    return output
  }
  return { child, ended, output: () => output, until }
}

interface Command {
  url: string
  body: string | undefined
}

function commands (text: string): Command[] {
  return [...text.matchAll(pattern)].map(([, url, body]) => ({ url: url!, body }))
}

function path ({ url, body }: Command): unknown {
  return [new URL(url).pathname, body]
}

async function tryAll (output: string) {
  const answers = []
  for (const { url, body } of commands(output)) {
    const response = await fetch(url, body === undefined ? {} : { method: 'POST', body, headers: { 'content-type': 'application/json' } })
    answers.push({ status: response.status, body: await response.text() })
  }
  return answers
}

function alive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
