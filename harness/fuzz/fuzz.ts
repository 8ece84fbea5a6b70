import fc from 'fast-check'
import pg from 'pg'
import { openHttp2Request } from '../http2-client.ts'
import { openRequest } from '../http-client.ts'
import { waitFor } from '../wait-for.ts'
import { type Apps, openApps, retry, type Run, runAttempt } from './apps.ts'
import { SessionModel } from './model.ts'
import { type Program, programs, type SessionProgram } from './program.ts'
import { schema } from './session-target.ts'
import { runSteps, type Trace } from './target.ts'
import { ModelError } from './transaction-model.ts'

export interface FuzzOptions {
  connectionString: string
  /** How many programs. */
  programs: number
  seed: number
  strategies: readonly Program['strategy'][]
  /** Called after each program. */
  progress?: (done: number) => void
}

export interface FuzzResult {
  /** The smallest program found that does not do what its model does, or null. */
  failure: string | null
  programs: number
  sessions: number
  /** Numbers that were saved. */
  rows: number
}

/** Programs that run at the same time. */
const atATime = 8

/** What a client, or the caller of a scope or session, is told. */
type Answer = 'success' | 'error' | 'refused' | 'nothing'

/** What has become of one session. */
interface Result {
  answer: Answer
  trace: Trace
  saved: number[]
}

/**
 * Runs programs of sessions against a model of a session: what each call comes to, what the client is told, and what is
 * in the table afterwards have to be the same.
 */
export async function fuzz (options: FuzzOptions): Promise<FuzzResult> {
  const { connectionString, programs: count, seed, strategies, progress } = options
  const observer = new pg.Pool({ connectionString, application_name: 'observer', max: 2 })
  await observer.query(schema)
  const apps = new Map<string, Apps>()
  for (const strategy of strategies) apps.set(strategy, await openApps(connectionString, strategy))
  const result: FuzzResult = { failure: null, programs: 0, sessions: 0, rows: 0 }
  let id = 0
  const run = async (program: Program): Promise<void> => {
    const own = apps.get(program.strategy)!
    const number = ++id
    const runs = program.sessions.map((session, index) => newRun(number, index, session))
    const told = await Promise.all(runs.map((run) => drive(own, run)))
    const { rows } = await observer.query<{ session: number, n: number }>(
      'SELECT session, n FROM fuzz WHERE program = $1 ORDER BY n', [number])
    result.programs++
    result.sessions += runs.length
    result.rows += rows.length
    for (const [index, { program, owner, trace }] of runs.entries()) {
      const saved = rows.filter(({ session }) => session === index).map(({ n }) => n)
      compare(await expected(program), { answer: told[index]!, trace, saved }, owner.hooked)
    }
    progress?.(result.programs)
  }
  try {
    const arbitrary = programs(strategies)
    const all = fc.sample(arbitrary, { numRuns: count, seed }).entries()
    let failed: number | null = null
    await Promise.all(Array.from({ length: atATime }, async () => {
      for (const [index, program] of all) {
        if (failed !== null) return
        await run(program).catch(() => { failed ??= index })
      }
    }))
    if (failed !== null) {
      // Once more by itself, and then with less and less in it.
      const details = await fc.check(fc.asyncProperty(arbitrary, run), { seed, path: String(failed), numRuns: count })
      result.failure = `seed ${seed}, program ${failed}: ` + (details.failed
        ? `${String((details.errorInstance as Error).message)}\n${JSON.stringify(details.counterexample, null, 1)}`
        : 'failed beside others, and not by itself')
    }
    for (const each of apps.values()) await waitFor(() => each.isQuiet, { message: 'every connection is back' })
    const saved = await observer.query<{ rows: number }>('SELECT count(*)::int AS rows FROM fuzz')
    // What a session goes on with after its client has left would be seen only now.
    const late = saved.rows[0]!.rows - result.rows
    if (late !== 0) result.failure ??= `${late} rows were saved after the end of their session`
    const { rowCount } = await observer.query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND
      application_name <> 'observer' AND state LIKE 'idle in transaction%'`)
    if (rowCount !== 0) result.failure ??= `${rowCount} backends are idle in a transaction`
    return result
  } finally {
    await Promise.all(Array.from(apps.values(), (each) => each.close()))
    await observer.end()
  }
}

function newRun (program: number, session: number, steps: SessionProgram): Run {
  let arrive!: () => void
  const arrived = new Promise<void>((resolve) => { arrive = resolve })
  return { owner: { program, session, attempt: 1, hooked: [] }, program: steps, trace: new Map(), arrived, arrive }
}

/** Runs one session to its end. */
async function drive (apps: Apps, run: Run): Promise<Answer> {
  const { way, mode, end } = run.program
  if (way === 'scope' || way === 'session') {
    const controller = new AbortController()
    run.arrived.then(() => controller.abort())
    const options = { mode, signal: controller.signal }
    const { db } = apps.app
    const done = way === 'scope'
      ? db.scope(async (session) => {
        await runAttempt(session, run)
        if (end === 'refuse') throw new Error('refused by the program')
      }, { ...options, ...(run.program.retry && { retry }) })
      : inSession(apps, run, options)
    return await done.then(() => 'success' as const, () => 'error' as const)
  }
  const path = apps.add(run)
  try {
    const request = way === 'HTTP/2'
      ? openHttp2Request(apps.http2Port, { method: 'POST', path })
      : openRequest(apps.port, { method: 'POST', path })
    const leave = (): void => { 'leave' in request ? request.leave() : request.socket.destroy() }
    run.arrived.then(leave)
    const { status, complete } = await request.response
    if ('socket' in request) request.socket.destroy()
    if (!complete) return 'nothing'
    return status < 400 ? 'success' : status === 422 ? 'refused' : 'error'
  } finally {
    apps.remove(run)
  }
}

async function inSession ({ app }: Apps, run: Run, options: Parameters<typeof app.db.session>[0]): Promise<void> {
  const session = app.db.session(options)
  try {
    await runAttempt(session, run)
    if (run.program.end === 'refuse') throw new Error('refused by the program')
    await session.commit()
  } finally {
    await session.close()
  }
}

/** What the model says. */
async function expected (program: SessionProgram): Promise<Result> {
  let result = await attempt(program, 1)
  if (result.isConflict && program.retry) result = await attempt(program, 2)
  return result
}

async function attempt (program: SessionProgram, number: number): Promise<Result & { isConflict: boolean }> {
  const { way, mode, steps, end } = program
  const isRequest = way.startsWith('HTTP')
  const model = new SessionModel(mode, number)
  const trace: Trace = new Map()
  const { saved } = model
  const result = (answer: Answer, isConflict = false): Result & { isConflict: boolean } =>
    ({ answer, trace, saved: saved.sort((a, b) => a - b), isConflict })
  try {
    await runSteps(model.target, steps, trace)
  } catch (error) {
    return result('error', model.isConflict || (error instanceof ModelError && error.isConflict))
  }
  if (end === 'throw') return result('error', model.isConflict)
  if (end === 'refuse') return isRequest ? result('refused') : result('error', model.isConflict)
  if (end === 'leave in a statement' && model.refuses) return result('error', model.isConflict)
  // In mode 'autocommit' a scope whose function resolves has lost nothing but a transaction that is still open.
  const mayResolve = way === 'scope' && mode === 'autocommit' && end === 'leave'
  if (end !== 'success' && !mayResolve) return result(isRequest ? 'nothing' : 'error')
  const { isConflict } = model
  try {
    if (way === 'session') await model.target.commit()
    else model.end()
    return result('success')
  } catch {
    return result('error', isConflict)
  }
}

function compare (expected: Result, seen: Result, hooked: number[]): void {
  const problems: string[] = []
  const check = (name: string, expected: unknown, seen: unknown): void => {
    if (String(expected) !== String(seen)) problems.push(`${name}: ${expected} expected, got ${seen}`)
  }
  check('the answer', expected.answer, seen.answer)
  check('saved', expected.saved, seen.saved)
  check('afterCommit() of', expected.saved, hooked.sort((a, b) => a - b))
  for (const n of new Set([...expected.trace.keys(), ...seen.trace.keys()])) {
    const is = seen.trace.get(n)
    // A call may begin before the failure is known that it is refused for.
    if (expected.trace.has(n) || is !== 'failed') check(`step ${n}`, expected.trace.get(n), is)
  }
  if (problems.length > 0) throw new Error(problems.join('; '))
}
