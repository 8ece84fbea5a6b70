import fc from 'fast-check'

/** What a program does with a session. `n` identifies a step; a step that writes writes this number. */
export type Step = { n: number, /** Its error is caught, and the program goes on. */ caught: boolean } & (
  | { do: 'insert' | 'fail' | 'conflict' | 'read' | 'doom' | 'cancel' | 'commit' | 'rollback' | 'rollback only' }
  | { do: 'refuse', how: Refusal }
  | { do: 'stream', rows: number, take: number }
  | { do: 'failing stream' }
  | { do: 'transaction', steps: Step[], throws: boolean, /** Calls the session around fn. */ outer: boolean }
  | { do: 'savepoint', steps: Step[], end: 'release' | 'rollback' | 'dispose' | 'none' }
  | { do: 'together', steps: Step[] }
)

export type Refusal = 'transaction control' | 'values' | 'transaction()' | 'aborted signal' | 'batch size'

/** Where the session comes from. */
export type Way = 'HTTP/1.1' | 'HTTP/2' | 'scope' | 'session'

/** `leave`: the client hangs up, or the signal is aborted, once all steps are done, or in a running statement. */
export type End = 'success' | 'throw' | 'refuse' | 'leave' | 'leave in a statement'

/** The program of one session. */
export interface SessionProgram {
  way: Way
  mode: 'transaction' | 'autocommit'
  retry: boolean
  steps: Step[]
  end: End
}

/** Sessions that run at the same time, on one engine. */
export interface Program {
  strategy: 'queue' | 'null'
  sessions: SessionProgram[]
}

/** Each name as often as its weight says. */
function oneOf<Name extends string> (weights: Record<Name, number>): fc.Arbitrary<Name> {
  const names = (Object.keys(weights) as Name[]).flatMap((name) => new Array<Name>(weights[name]).fill(name))
  return fc.constantFrom(...names)
}

const n = fc.constant(0)
const caught = fc.boolean()
const severalCalls = { minLength: 2, maxLength: 4 }

const { step } = fc.letrec<{ step: Step, steps: Step[] }>((tie) => {
  const simple = fc.record({
    do: oneOf({ insert: 4, read: 1, fail: 1, conflict: 1 }),
    n,
    caught
  })
  const rare = fc.record({
    do: oneOf({ commit: 2, rollback: 2, doom: 1, cancel: 1, 'rollback only': 1 }),
    n,
    caught
  })
  const refuse = fc.record({
    do: fc.constant('refuse' as const),
    how: fc.constantFrom<Refusal>('transaction control', 'values', 'transaction()', 'aborted signal', 'batch size'),
    n,
    caught
  })
  const stream = fc.record({ do: fc.constant('stream' as const), rows: fc.nat(5), take: fc.nat(5), n, caught })
  const failingStream = fc.record({ do: fc.constant('failing stream' as const), n, caught })
  const transaction = fc.record({
    do: fc.constant('transaction' as const), steps: tie('steps'), throws: fc.boolean(), outer: fc.boolean(), n, caught
  })
  const savepoint = fc.record({
    do: fc.constant('savepoint' as const),
    steps: tie('steps'),
    end: oneOf({ release: 2, rollback: 1, dispose: 1, none: 1 }),
    n,
    caught
  })
  const insert = fc.record({ do: fc.constant('insert' as const), n, caught })
  const failure = simple.map((step) => step.do === 'read' ? { ...step, do: 'insert' as const } : step)
  const ownTransaction = transaction.map((step) => ({ ...step, outer: false }))
  // Beside a call that fails, fn may have begun or not: that is not for a model to say.
  const together = fc.record({
    do: fc.constant('together' as const),
    steps: fc.oneof(
      fc.array(fc.oneof({ arbitrary: failure, weight: 4 }, { arbitrary: refuse, weight: 1 }), severalCalls),
      fc.array(fc.oneof({ maxDepth: 3 }, insert, ownTransaction), severalCalls)),
    n,
    caught
  })
  return {
    step: fc.oneof({ maxDepth: 3 }, { arbitrary: simple, weight: 10 }, { arbitrary: rare, weight: 3 },
      { arbitrary: refuse, weight: 2 }, { arbitrary: stream, weight: 2 }, { arbitrary: failingStream, weight: 1 },
      { arbitrary: transaction, weight: 4 }, { arbitrary: savepoint, weight: 4 }, { arbitrary: together, weight: 2 }),
    steps: fc.array(tie('step'), { maxLength: 3 })
  }
})

const sessionProgram: fc.Arbitrary<SessionProgram> = fc.record({
  way: oneOf<Way>({ 'HTTP/1.1': 2, 'HTTP/2': 1, scope: 1, session: 1 }),
  mode: oneOf<SessionProgram['mode']>({ transaction: 2, autocommit: 1 }),
  retry: fc.boolean(),
  steps: fc.array(step, { minLength: 1, maxLength: 6 }),
  end: oneOf<End>({ success: 4, throw: 1, refuse: 1, leave: 1, 'leave in a statement': 1 })
}).map((program) => {
  const retry = program.retry && program.mode === 'transaction' && program.way !== 'session'
  // What a commit() has saved is not undone, so that nothing is run again: that is a test of its own.
  return { ...program, retry, steps: numbered(program.steps, { next: 1, withoutCommit: retry }) }
})

/** @param strategies the pool strategies to choose from */
export function programs (strategies: readonly Program['strategy'][]): fc.Arbitrary<Program> {
  return fc.record({
    strategy: fc.constantFrom(...strategies, strategies[0]!),
    sessions: fc.array(sessionProgram, { minLength: 1, maxLength: 2 })
  })
}

interface Numbering {
  next: number
  withoutCommit: boolean
}

/**
 * Numbers all steps, from the outside in.
 *
 * @param alone false: other calls run at the same time, so that chance decides what is read, and whether fn begins
 */
function numbered (steps: readonly Step[], numbering: Numbering, alone = true): Step[] {
  return steps.map((step) => {
    const own = { ...step, n: numbering.next++ }
    const dependsOnChance = !alone && (own.do === 'read' || own.do === 'rollback only')
    if (dependsOnChance || (own.do === 'commit' && numbering.withoutCommit)) return { ...own, do: 'insert' }
    return 'steps' in own ? { ...own, steps: numbered(own.steps, numbering, alone && own.do !== 'together') } : own
  })
}
