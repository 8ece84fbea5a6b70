import type { Refusal, Step } from './program.ts'

/** What a program runs on: a session, or the model of one. */
export interface Target {
  insert (n: number): Promise<void>
  /** A statement for which COMMIT will be refused. */
  doom (): Promise<void>
  /** A statement that the server refuses. */
  fail (): Promise<void>
  /** A serialization failure in the first attempt. */
  conflict (): Promise<void>
  /** The numbers that this session has written, as it sees them. */
  read (): Promise<number[]>
  /** An insert whose signal is aborted while it waits or runs. */
  cancel (n: number): Promise<void>
  refuse (how: Refusal): Promise<void>
  /** Reads so many rows of a stream, and leaves it. */
  stream (rows: number, take: number): Promise<void>
  failingStream (): Promise<void>
  transaction (fn: (inner: Target) => Promise<void>, outer: boolean): Promise<void>
  savepoint (): Promise<SavepointTarget>
  /** Calls that do not wait for each other. Rejects with the first error once all have settled. */
  together (calls: readonly (() => Promise<void>)[]): Promise<void>
  commit (): Promise<void>
  rollback (): Promise<void>
  setRollbackOnly (): Promise<void>
}

export interface SavepointTarget {
  release (): Promise<void>
  rollback (): Promise<void>
  dispose (): Promise<void>
}

/** What each step has come to, by its number. */
export type Trace = Map<number, string>

export async function runSteps (target: Target, steps: readonly Step[], trace: Trace): Promise<void> {
  for (const step of steps) await runStep(target, step, trace)
}

async function runStep (target: Target, step: Step, trace: Trace): Promise<void> {
  try {
    const read = await perform(target, step, trace)
    trace.set(step.n, read ?? 'done')
  } catch (error) {
    trace.set(step.n, 'failed')
    if (!step.caught) throw error
  }
}

async function perform (target: Target, step: Step, trace: Trace): Promise<string | undefined> {
  switch (step.do) {
    case 'read': return `read ${(await target.read()).join(' ')}`
    case 'insert': await target.insert(step.n); break
    case 'fail': await target.fail(); break
    case 'doom': await target.doom(); break
    case 'conflict': await target.conflict(); break
    case 'cancel': await target.cancel(step.n); break
    case 'refuse': await target.refuse(step.how); break
    case 'stream': await target.stream(step.rows, step.take); break
    case 'failing stream': await target.failingStream(); break
    case 'commit': await target.commit(); break
    case 'rollback': await target.rollback(); break
    case 'rollback only': await target.setRollbackOnly(); break
    case 'together': await target.together(step.steps.map((call) => () => runStep(target, call, trace))); break
    case 'transaction':
      await target.transaction(async (inner) => {
        await runSteps(inner, step.steps, trace)
        if (step.throws) throw new Error('thrown by fn')
      }, step.outer)
      break
    case 'savepoint': await inSavepoint(target, step, trace)
  }
  return undefined
}

async function inSavepoint (
  target: Target, { steps, end }: Extract<Step, { do: 'savepoint' }>, trace: Trace
): Promise<void> {
  const savepoint = await target.savepoint()
  try {
    await runSteps(target, steps, trace)
    if (end === 'release' || end === 'rollback') await savepoint[end]()
  } finally {
    if (end === 'dispose') await savepoint.dispose()
  }
}
