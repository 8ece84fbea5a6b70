import { setTimeout as sleep } from 'node:timers/promises'
import { BankProcess, schema } from './bank.ts'
import { transfer, type Answer, type Transfer } from './client.ts'
import { startPgBouncer } from '../pgbouncer.ts'
import { startTestPostgres } from '../postgres.ts'
import { waitFor } from '../wait-for.ts'
import { idempotencyTable } from '../../lib/idempotency/index.ts'

export interface RunOptions {
  /** How long faults follow each other, in milliseconds; each kind of fault happens once at least. */
  duration: number
  clients: number
  seed: number
  progress?: (line: string) => void
}

export interface Run {
  /** What was found that must not be, as sentences. */
  failures: string[]
  transfers: number
  /** Requests, those that were sent again included. */
  sent: number
  /** Answers that were those of an earlier request. */
  replayed: number
  faults: Record<string, number>
}

/** How many transfers must be answered after a fault before the next one. */
const answersBetween = 5

/** How long after a fault they may take. Milliseconds. */
const patience = 60_000

/**
 * Clients send transfers to a bank, each with a key, again and again until they have an answer, while the app, the
 * PgBouncer and the server are killed. In the end each transfer must be in the ledger once, and have one answer.
 */
export async function runRepeatedRequests (
  t: { teardown (callback: () => unknown): unknown }, { duration, clients, seed, progress = () => {} }: RunOptions
): Promise<Run> {
  const postgres = await startTestPostgres(t, { durable: true })
  await postgres.query(schema + idempotencyTable)
  const pooler = await startPgBouncer(t, postgres, { settings: { server_login_retry: 1 } })
  const bank = await BankProcess.open(pooler.connectionString)
  t.teardown(() => bank.kill9())

  const faults: Record<string, () => Promise<unknown>> = {
    app: async () => { await bank.kill9(); await bank.start() },
    pooler: async () => { await pooler.kill9(); await pooler.start() },
    server: () => postgres.restart('immediate'),
    backends: () => postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = \'client backend\'')
  }
  const random = randomOf(seed)
  const pick = (n: number): number => Math.floor(random() * n)
  const answers = new Map<Transfer, Answer | null>()
  const failures: string[] = []
  const ended = new AbortController()
  const gaveUp = new AbortController()
  const work = Array.from({ length: clients }, async (_, client) => {
    for (let n = 0; !ended.signal.aborted; n++) {
      const from = 1 + Math.floor(Math.random() * 8)
      const body = { id: `${client}-${n}`, from, to: 1 + (from + Math.floor(Math.random() * 7)) % 8, amount: 1 }
      answers.set(body, await transfer(bank.port, body, gaveUp.signal))
    }
  })
  const counts: Record<string, number> = {}
  const names = Object.keys(faults)
  const end = performance.now() + duration
  for (let n = 0; n < names.length || performance.now() < end; n++) {
    // Each in turn, so that a short run has all of them.
    const name = n < names.length ? names[n]! : names[pick(names.length)]!
    const before = answers.size
    const isServed = (): boolean => answers.size >= before + answersBetween
    await waitFor(isServed, { timeout: patience }).catch(() => {})
    if (!isServed()) {
      failures.push(`not ${answersBetween} transfers were answered within ${patience} ms, after ${JSON.stringify(counts)}`)
      break
    }
    await sleep(pick(50))
    await faults[name]!()
    counts[name] = (counts[name] ?? 0) + 1
    progress(`${name} killed; ${answers.size} transfers`)
  }
  ended.abort()
  const timer = setTimeout(() => gaveUp.abort(), patience)
  await Promise.all(work)
  clearTimeout(timer)
  failures.push(...await check(answers, bank.port, postgres))
  const all = [...answers.values()].filter((answer) => answer !== null)
  return {
    failures,
    transfers: answers.size,
    sent: all.reduce((sum, { sent }) => sum + sent, 0),
    replayed: all.filter(({ replayed }) => replayed).length,
    faults: counts
  }
}

async function check (
  answers: Map<Transfer, Answer | null>, port: number, postgres: Awaited<ReturnType<typeof startTestPostgres>>
): Promise<string[]> {
  const failures: string[] = []
  const { rows } = await postgres.query<{ transfer: string, times: number }>('SELECT transfer, count(*)::int AS times FROM ledger GROUP BY transfer')
  const times = new Map(rows.map(({ transfer, times }) => [transfer, times]))
  for (const [body, answer] of answers) {
    if (answer?.status !== 201) failures.push(`${body.id} was answered with ${answer?.status ?? 'nothing'}: ${answer?.body}`)
    if (times.get(body.id) !== 1) failures.push(`${body.id} was done ${times.get(body.id) ?? 0} times`)
    const last = await transfer(port, body, AbortSignal.timeout(patience))
    if (last === null || last.body !== answer?.body || !last.replayed) failures.push(`${body.id} has another answer: ${last?.body}, after ${answer?.body}`)
  }
  if (times.size !== answers.size) failures.push(`${times.size} transfers are in the ledger, ${answers.size} were sent`)
  const { rows: [sum] } = await postgres.query('SELECT sum(balance)::int AS sum FROM account')
  if (sum.sum !== 8000) failures.push(`the sum of all accounts is ${sum.sum}, not 8000`)
  return failures
}

/** The same numbers for the same seed (mulberry32). */
function randomOf (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6D2B79F5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
