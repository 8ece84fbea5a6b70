import t from 'tap'
import { help, readOptions } from '../benchmark/options.ts'
import { planOf, wholePlan } from '../benchmark/plan.ts'
import { ratio, type Result, type Results } from '../benchmark/results.ts'
import { subjectNames, type SubjectName } from '../benchmark/subject.ts'
import { reached, targetsOf } from '../benchmark/targets.ts'
import { type WorkloadName, workloadNames } from '../benchmark/workloads.ts'

const measured = (
  subject: SubjectName, workload: WorkloadName, perSecond: number[], { delay = 0, connections = 50, p50 = 1 } = {}
): Result => ({
  setting: { delay, connections, pooler: 'none' },
  subject,
  workload,
  rounds: perSecond.map((perSecond) => ({ perSecond, p50, p99: 2, cpu: 100 }))
})

const results = (measured: Result[], others: Partial<Results> = {}): Results => ({
  about: { command: '', rounds: 1, seconds: 1, cores: 2, versions: [], delays: [], missing: [] },
  measured,
  roundTrips: [],
  allocations: [],
  scalings: [],
  floors: [],
  ...others
})

t.test('a ratio compares rounds that ran one after the other, so that a slow minute counts for both', async (t) => {
  t.equal(ratio(measured('pg-scope', 'read', [200, 20, 210]), measured('by-hand', 'read', [100, 10, 300]), 'perSecond'), 2)
})

t.test('a target is reached at its limit and beyond', async (t) => {
  const found = targetsOf(results([
    measured('by-hand', 'read', [100]), measured('pg-scope', 'read', [150]),
    measured('by-hand', 'read', [100], { delay: 2 }), measured('pg-scope', 'read', [279], { delay: 2 }),
    measured('by-hand', 'read-only', [100], { connections: 5, p50: 1 }), measured('pg-scope', 'read-only', [1], { connections: 5, p50: 0.75 }),
    measured('by-hand', 'read-only', [100], { connections: 5, p50: 1, delay: 2 }), measured('pg-scope', 'read-only', [1], { connections: 5, p50: 0.41, delay: 2 })
  ]))
  t.strictSame(found.map(({ title, outcomes }) => [title, outcomes.map(reached)]), [
    ['one read', [true, false]],
    ['one read, READ ONLY: p50 at 5 connections', [true, false]]
  ])
})

t.test('of several workloads the worst counts, and autocommit does not', async (t) => {
  const [target] = targetsOf(results([
    measured('fastify-postgres', 'autocommit', [100]), measured('pg-scope', 'autocommit', [50]),
    measured('fastify-postgres', 'read', [100]), measured('pg-scope', 'read', [180]),
    measured('fastify-postgres', 'write', [100]), measured('pg-scope', 'write', [140])
  ]))
  t.match(target, { title: /transact/, outcomes: [{ value: 1.4, note: 'update + insert' }] })
})

t.test('growth is judged beside that of pg by hand', async (t) => {
  const cost = (cpu: number) => ({ count: 1, cpu })
  const [target] = targetsOf(results([], {
    scalings: [
      { subject: 'by-hand', what: 'waiting requests', few: cost(100), many: cost(150) },
      { subject: 'pg-scope', what: 'waiting requests', few: cost(100), many: cost(165) }
    ]
  }))
  t.match(target?.outcomes.map(({ value, limit }) => [value.toFixed(2), limit]), [['1.15', 1.05]])
})

t.test('the whole plan holds what every target needs', async (t) => {
  const figures = wholePlan.flatMap(({ setting, workloads }) => workloads.flatMap(
    ({ name, subjects }) => subjects.map((subject) => ({ ...measured(subject, name, [1]), setting }))
  ))
  const cost = { count: 1, cpu: 1 }
  const targets = targetsOf(results(figures, {
    allocations: (['by-hand', 'pg-scope'] as const).map((subject) => ({ subject, workload: 'read', bytes: 1 })),
    scalings: (['by-hand', 'pg-scope'] as const).flatMap((subject) => (['routes', 'waiting requests'] as const).map((what) => ({ subject, what, few: cost, many: cost })))
  }))
  t.strictSame(targets.map(({ outcomes }) => outcomes.length), [2, 2, 2, 2, 2, 1, 2, 2, 1, 1, 1, 1])
})

t.test('what is chosen is measured in every combination, and nothing else', async (t) => {
  const plan = planOf({ subjects: ['fastify', 'pg-scope'], workloads: ['plain', 'read'], delays: [0, 2], connections: [10] })
  const plain = [{ name: 'plain', subjects: ['fastify', 'pg-scope'] }]
  const read = [{ name: 'read', subjects: ['pg-scope'] }]
  t.strictSame(plan.map(({ setting: { delay, connections }, workloads }) => ({ delay, connections, workloads })), [
    { delay: 0, connections: 10, workloads: plain },
    { delay: 0, connections: 10, workloads: read },
    { delay: 2, connections: 10, workloads: plain },
    { delay: 2, connections: 10, workloads: read }
  ])
  t.strictSame(planOf({ workloads: ['read'], subjects: ['fastify'] }), [], 'Fastify alone has no database')
})

t.test('options that mean nothing, and a page of some of the figures, are refused', async (t) => {
  t.match(readOptions(['--subjects', 'by-hand,pg-scope', '--delay', '0,2']), { choice: { subjects: ['by-hand', 'pg-scope'], delays: [0, 2] }, parts: ['speed', 'round-trips'], rounds: 5 })
  t.match(readOptions([]), { choice: null })
  for (const args of [['--subjects', 'prisma'], ['--workloads', ''], ['--delay', 'x'], ['--rounds', '0'], ['--rounds', '1.5'], ['--seconds', '-1'], ['--nothing'], ['--write', '--delay', '2'], ['--write', '--parts', 'speed']]) {
    t.throws(() => readOptions(args), args.join(' '))
  }
})

t.test('the help names every subject and every workload', async (t) => {
  for (const name of [...subjectNames, ...workloadNames]) t.match(help, name)
})

t.test('an earlier build is measured beside this one', async (t) => {
  const options = readOptions(['--before', '../earlier', '--workloads', 'read'])
  t.match(options, { choice: { subjects: ['fastify', 'by-hand', 'before', 'pg-scope'], workloads: ['read'] } })
  t.match(readOptions(['--before', '../earlier', '--subjects', 'before,pg-scope']), { choice: { subjects: ['before', 'pg-scope'] } })
})
