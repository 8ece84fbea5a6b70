import t from 'tap'
import { TextMemo } from '../../../lib/postgres/text-memo.ts'

function counted (): { memo: TextMemo<number>, found: () => number } {
  let found = 0
  return { memo: new TextMemo((text) => { found++; return text.length }), found: () => found }
}

t.test('what is known of a text is found out once', async t => {
  const { memo, found } = counted()
  for (let i = 0; i < 3; i++) t.equal(memo.of('SELECT 1'), 8)
  t.equal(found(), 1)
})

t.test('a thousand short texts are remembered, and not many thousands', async t => {
  const { memo, found } = counted()
  const all = (count: number): void => { for (let i = 0; i < count; i++) memo.of(`SELECT ${i}`) }
  all(1000)
  all(1000)
  t.equal(found(), 1000)
  all(2100)
  all(2100)
  t.ok(found() > 2100, `${found()}`)
})

t.test('long texts are remembered as far as there is room', async t => {
  const { memo, found } = counted()
  const long = Array.from({ length: 5 }, (_, i) => `${i}`.repeat(1_000_000))
  memo.of(long[0]!)
  memo.of(long[0]!)
  t.equal(found(), 1)
  for (const text of long) memo.of(text)
  memo.of(long[0]!)
  t.equal(found(), 6)
})

t.test('a text that is too long to be remembered pushes out no other', async t => {
  const { memo, found } = counted()
  memo.of('SELECT 1')
  for (let i = 0; i < 2; i++) t.equal(memo.of('x'.repeat(5_000_000)), 5_000_000)
  t.equal(found(), 3)
  memo.of('SELECT 1')
  t.equal(found(), 3)
})
