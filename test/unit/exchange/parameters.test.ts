import t from 'tap'
import { checkTextSize, parametersOf } from '../../../lib/exchange/parameters.ts'

const limit = 10_000

t.test('values that are too large together are refused, by their size in bytes', async t => {
  const fits: unknown[][] = [['€'.repeat(3200)], [Buffer.alloc(4800), 'a'.repeat(4800)], [null, undefined, 1], []]
  for (const values of fits) t.equal(parametersOf(values, limit).length, values.length)
  const refused: [unknown[], RegExp][] = [
    [['€'.repeat(3300)], /may have 10000 bytes in total; the largest, \$1, is a string of 9900 bytes;/],
    [[1, Buffer.alloc(9900), 'a'], /\$2, is a Buffer of 9900 bytes;/],
    [['a'.repeat(5000), new Uint8Array(5000)], /\$1, is a string of 5000 bytes;/],
    [[['a'.repeat(9900)]], /\$1, is a string of/]
  ]
  for (const [values, message] of refused) t.throws(() => parametersOf(values, limit), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: message })
})

t.test('a text that is too large is refused, by its size in bytes', async t => {
  checkTextSize('€'.repeat(3200), limit)
  t.throws(() => checkTextSize('€'.repeat(3300), limit), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /the text must have at most 9800 bytes, got 9900/ })
})
