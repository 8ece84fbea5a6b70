import t from 'tap'
import { describe, TapReader, type Tally } from '../../variants/tally.ts'

interface Read { tally: Tally, shown: string[] }

function read (lines: string[], exitCode = 0, maySkip = true): Read {
  const shown: string[] = []
  const reader = new TapReader((line) => { shown.push(line) })
  for (const line of lines) reader.line(line)
  return { tally: reader.tally(exitCode, { maySkip }), shown }
}

const passing = [
  'TAP version 14',
  '# Subtest: test/a.test.ts',
  '    # not run through PgBouncer 1.18 (LISTEN hears nothing): LISTEN works',
  '    # Subtest: one',
  '        ok 1 - yes',
  '        ok 2 - no # SKIP some day',
  '    ok 1 - one # time=1ms',
  '    # { total: 99, pass: 99 }',
  'ok 1 - test/a.test.ts # time=1ms',
  '# Subtest: test/b.test.ts',
  '    # not run through PgBouncer 1.18 (it is the server that is full): refused',
  '    1..0 # no tests found',
  'ok 2 - test/b.test.ts # SKIP no tests found'
]

t.test('what passed, what was marked and what skipped itself are counted; an empty file counts as nothing', async (t) => {
  const { tally, shown } = read([...passing, '# { total: 3, pass: 1, skip: 2 }'])
  t.same(tally, { passed: 1, failed: 0, notRun: 3 })
  t.same(shown, [])
  t.equal(describe(tally), '1 passed, 0 failed, 3 not run')
})

t.test('where nothing may be skipped, what skips itself has failed; what is marked has not', async (t) => {
  t.same(read([...passing, '# { total: 3, pass: 1, skip: 2 }'], 0, false).tally, { passed: 1, failed: 1, notRun: 2 })
})

t.test('what failed is counted and shown, and nothing else', async (t) => {
  const { tally, shown } = read([
    '    ok 1 - fine',
    '    not ok 2 - one is two',
    '      ---',
    '      found: 1',
    '      ...',
    '    ok 3 - fine',
    '    # a comment',
    '# { total: 3, pass: 2, fail: 1 }'
  ], 1)
  t.same(tally, { passed: 2, failed: 1, notRun: 0 })
  t.same(shown, ['    not ok 2 - one is two', '      ---', '      found: 1', '      ...'])
})

t.test('a runner that ends without a result, or with a bad status, has failed', async (t) => {
  t.same(read(['ok 1 - fine']).tally, { passed: 0, failed: 1, notRun: 0 })
  t.same(read(['ok 1 - fine', '# { total: 1, pass: 1 }'], 7).tally, { passed: 1, failed: 1, notRun: 0 })
})
