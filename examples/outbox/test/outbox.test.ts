import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { accounts, buildApp } from '../src/app.ts'
import { requestDelivery, startBoss } from '../src/boss.ts'
import type { OutboxEvent } from '../src/outbox.ts'

const folder = fileURLToPath(new URL('..', import.meta.url))
t.before(() => { execFileSync('npm', ['run', 'build', '--silent'], { cwd: folder }) })

const postgres = await startTestPostgres(t)
const deposits = 40

/** A receiver that fails now and then, and says what it has got. */
async function openReceiver (t: Test): Promise<{ url: string, received: OutboxEvent[] }> {
  const received: OutboxEvent[] = []
  const server = createServer(async (request, response) => {
    const event = await json(request) as OutboxEvent
    if (Math.random() < 0.05) return response.writeHead(503).end()
    received.push(event)
    await sleep(Math.random() * 5)
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

for (const kind of ['worker', 'pg-boss'] as const) {
  t.test(`${kind}: events are delivered at least once and in order, although workers and connections are killed`, async (t) => {
    const connectionString = await postgres.createDatabase()
    await postgres.query(accounts, [], connectionString)
    await postgres.query('insert into accounts select n, 0 from generate_series(1, 5) as n', [], connectionString)
    const { url, received } = await openReceiver(t)
    let boss: Awaited<ReturnType<typeof startBoss>> | undefined
    const app = await buildApp({ connectionString }, {}, async (session, key) => {
      if (boss !== undefined) await requestDelivery(boss, session, key, 3)
    })
    t.teardown(() => app.close())
    await app.ready()
    if (kind === 'pg-boss') boss = await startBoss(app.db)

    const start = (): ChildProcess => {
      const child = spawn(process.execPath, ['dist/main.js', ...(kind === 'pg-boss' ? ['--boss'] : [])], {
        cwd: folder,
        env: { PATH: process.env.PATH, DATABASE_URL: connectionString, RECEIVER: url, LOG_LEVEL: 'fatal' },
        stdio: 'ignore'
      })
      t.teardown(() => { child.kill('SIGKILL') })
      return child
    }
    const workers = [start(), start()]
    const acknowledged: number[] = []
    const sending = Promise.all([1, 2, 3, 4, 5].map(async (id) => {
      for (let n = 0; n < deposits / 5; n++) {
        const { statusCode } = await app.inject({ method: 'POST', url: `/accounts/${id}/deposits`, payload: { amount: 1 } })
        if (statusCode === 201) acknowledged.push(id)
        await sleep(20)
      }
    }))
    const missing = await app.inject({ method: 'POST', url: '/accounts/9/deposits', payload: { amount: 1 } })
    t.equal(missing.statusCode, 404)

    await waitFor(() => received.length > 5, { timeout: 60_000 })
    for (let n = 0; n < 2; n++) {
      const victim = workers.shift()!
      victim.kill('SIGKILL')
      if (victim.exitCode === null && victim.signalCode === null) await once(victim, 'exit')
      workers.push(start())
      await postgres.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name like \'pg-scope-outbox%\' order by random() limit 1')
      const before = received.length
      await waitFor(() => received.length > before + 5 || received.length >= deposits, { timeout: 60_000 })
    }
    await sending
    const left = async (): Promise<number> => (await postgres.query('select count(*)::int as n from outbox', [], connectionString)).rows[0].n
    await waitFor(async () => await left() === 0, { timeout: 60_000 })

    const { rows } = await postgres.query('select id, balance from accounts order by id', [], connectionString)
    for (const { id, balance } of rows) {
      const own = received.filter(({ key }) => key === `account ${id}`)
      const first = own.filter(({ id }, at) => own.findIndex((other) => other.id === id) === at)
      const balances = first.map(({ payload }) => (payload as { balance: number }).balance)
      t.same(balances, Array.from({ length: balance }, (_, n) => n + 1), `account ${id}: each deposit, in order`)
      // What is delivered again is never older than what was delivered last.
      const ids = own.map(({ id }) => Number(id))
      t.ok(ids.every((each, at) => at === 0 || each >= ids[at - 1]!), 'also where it was delivered twice')
      t.ok(balance >= acknowledged.filter((each) => each === id).length)
    }
    for (const worker of workers) {
      worker.kill('SIGTERM')
      await once(worker, 'exit')
    }
    if (boss !== undefined) await boss.stop({ graceful: false })
  })
}
