// What it costs to recognise the statements that cannot work behind transaction pooling: docs/pgbouncer.md has the
// figures.
import { ruleFor } from '../../lib/pgbouncer/rules.ts'

const rounds = 9

const fixed = [
  'select id, owner, balance from accounts where id = $1',
  'update accounts set balance = balance - $1 where id = $2',
  'insert into transfers (source, target, amount) values ($1, $2, $3) returning id',
  'select a.id, a.owner, t.amount from accounts a join transfers t on t.source = a.id where a.owner = $1 and t.amount > $2 order by t.amount desc limit 20'
]
const columns = (count: number): string => Array.from({ length: count }, (_, i) => `($${2 * i + 1}, $${2 * i + 2})`).join(', ')
const rows = { '10 kB': columns(800), '1 MB': columns(63_000) }

/** What is looked at, how many times in a round; the text of each time. */
const cases: [string, number, (i: number) => string][] = [
  ['a text that was seen before', 1_000_000, (i) => fixed[i & 3]!],
  ['the same, put together anew', 300_000, (i) => `select id, owner, balance from accounts where ${i & 1 ? 'owner' : 'id'} = $1`],
  ['a new text without any suspicious word', 50_000, (i) => `select id, owner, balance from accounts where id = ${unique(i)} order by id limit 20`],
  ['a new UPDATE, for SET is one', 50_000, (i) => `update accounts set balance = balance - $1 where id = ${unique(i)} returning balance`],
  ['a new text of 10 kB', 1000, (i) => `insert into transfers_${unique(i)} values ${rows['10 kB']}`],
  ['a new text of 10 kB with a suspicious word', 1000, (i) => `insert into transfers_${unique(i)} values ${rows['10 kB']} on conflict do update set amount = 0`],
  ['a new text of 1 MB', 20, (i) => `insert into transfers_${unique(i)} values ${rows['1 MB']}`]
]

let run = 0
/** Different in each round. */
function unique (i: number): string {
  return `${run}${String(i).padStart(8, '0')}`
}

const middle = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!

/** Microseconds for each time: less what it takes to make the texts. */
function measure (times: number, text: (i: number) => string): number {
  const texts = Array.from({ length: Math.min(times, 50_000) }, (_, i) => text(i))
  const start = performance.now()
  for (let i = 0; i < times; i++) if (ruleFor(texts[i % texts.length]!) !== null) throw new Error('a rule was found')
  return (performance.now() - start) * 1000 / times
}

const figure = (microseconds: number): string => microseconds < 10 ? microseconds.toFixed(2) : microseconds.toFixed(0)

console.log('| text | microseconds |\n|---|---|')
for (const [what, times, text] of cases) {
  const measured = Array.from({ length: rounds }, () => {
    run++
    return measure(times, text)
  })
  console.log(`| ${what} | ${figure(middle(measured))} |`)
}
