import { setTimeout as sleep } from 'node:timers/promises'
import { startPgBouncer } from '../pgbouncer.ts'
import { startPgProxy, type Teardown } from '../pg-proxy.ts'
import { Load } from './load.ts'
import { Servers } from './servers.ts'

export interface FailoversOptions {
  /** How many failovers, and how many planned switchovers. */
  times: number
  progress?: (line: string) => void
}

export interface Failovers {
  /** What was found that must not be, as sentences. */
  failures: string[]
  failovers: number
  switchovers: number
  /** Requests, and those whose client read a success. */
  requests: number
  acknowledged: number
  /** Requests that were under way at a failover and failed, by their code. */
  failed: Map<string, number>
  /** From the promotion of a standby to the first success, for each failover. Milliseconds. */
  untilSuccess: number[]
  /** The longest wait of a request during each switchover. Milliseconds. */
  longestWait: number[]
}

/** What may happen to a request whose connection is lost. */
const expected = ['FST_PG_SCOPE_CONNECTION_LOST', 'FST_PG_SCOPE_COMMIT_UNKNOWN']

/**
 * Fails over from a primary to its synchronous standby under load, again and again, and then switches over as planned
 * behind PgBouncer. In the end each row whose insert was acknowledged must be there, and none that was rejected.
 */
export async function runFailovers (
  t: Teardown, { times, progress = () => {} }: FailoversOptions
): Promise<Failovers> {
  const servers = await Servers.start(t)
  await servers.primary.query('CREATE TABLE item (n int PRIMARY KEY)')
  const { user, password, database } = servers.primary
  const url = (ports: number[]): string => {
    const hosts = ports.map((port) => `127.0.0.1:${port}`).join(',')
    return `postgres://${user}:${password}@${hosts}/${database}?target_session_attrs=primary`
  }
  const failures: string[] = []
  const untilSuccess: number[] = []
  const failing = await Load.start(t, url(servers.addresses.map(({ port }) => port)), 0)
  for (let i = 0; i < times; i++) {
    await failing.progress()
    untilSuccess.push(await failOver(servers, failing, i % 2 === 0))
    await servers.rebuild()
    progress(`failover ${i + 1}: the first success ${untilSuccess.at(-1)} ms after the promotion began`)
  }
  await failing.end()
  failures.push(...await check(servers, failing))
  for (const { code } of failing.failed) {
    if (!expected.includes(code!)) failures.push(`a request was answered with ${code ?? 'nothing'}`)
  }

  const front = await startPgProxy(t, servers.primary)
  const pooler = await startPgBouncer(t, { ...servers.primary, port: front.port })
  const planned = await Load.start(t, url([pooler.port]), 1_000_000)
  const longestWait: number[] = []
  for (let i = 0; i < times; i++) {
    await planned.progress()
    const before = planned.answers.length
    await pooler.pause()
    await servers.primary.stop()
    await servers.promote()
    front.redirect(servers.next)
    await pooler.resume()
    await planned.progress()
    const waits = planned.answers.slice(before).map(({ sent, answered }) => answered - sent)
    longestWait.push(Math.round(Math.max(...waits)))
    await servers.rebuild()
    progress(`switchover ${i + 1}: the longest wait of a request was ${longestWait.at(-1)} ms`)
  }
  await planned.end()
  failures.push(...await check(servers, planned))
  for (const { code } of planned.failed) failures.push(`a request failed during a switchover: ${code ?? 'no answer'}`)

  const failed = new Map<string, number>()
  for (const { code = 'no answer' } of failing.failed) failed.set(code, (failed.get(code) ?? 0) + 1)
  return {
    failures,
    failovers: untilSuccess.length,
    switchovers: longestWait.length,
    requests: failing.answers.length + planned.answers.length,
    acknowledged: failing.acknowledged.length + planned.acknowledged.length,
    failed,
    untilSuccess,
    longestWait
  }
}

/**
 * The primary fails, and its standby is promoted.
 *
 * @param crashes the server is killed; otherwise the network to it is cut, and it stays up
 * @returns milliseconds from the promotion to the first success that a client read
 */
async function failOver (servers: Servers, load: Load, crashes: boolean): Promise<number> {
  const { address, primary } = servers
  address.refuse()
  if (crashes) process.kill(primary.pid, 'SIGQUIT')
  else address.cut()
  // What was answered before is read by now: the next success is one of the new primary.
  await sleep(200 + Math.random() * 200)
  const began = await servers.promote()
  await load.progress()
  const first = load.answers.find(({ status, answered }) => status === 201 && answered > began)!
  return Math.round(first.answered - began)
}

async function check (servers: Servers, load: Load): Promise<string[]> {
  const { rows } = await servers.primary.query<{ n: number }>('SELECT n FROM item')
  const there = new Set(rows.map(({ n }) => n))
  const lost = load.acknowledged.filter((n) => !there.has(n))
  const unwanted = load.failed.filter(({ n, code }) => code === 'FST_PG_SCOPE_CONNECTION_LOST' && there.has(n))
  return [
    ...lost.map((n) => `${n} was acknowledged, and is lost`),
    ...unwanted.map(({ n }) => `${n} was rejected, and is there`)
  ]
}
