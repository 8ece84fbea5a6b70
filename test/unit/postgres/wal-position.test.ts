import t from 'tap'
import { formatPosition, isReached, laterPosition, parsePosition } from '../../../lib/postgres/wal-position.ts'

t.test('a position is read as it was written', async (t) => {
  const position = { system: '7431234567890123456', timeline: 12, lsn: '1A/3019F88' }
  t.equal(formatPosition(position), '7431234567890123456.12.1A/3019F88')
  t.same(parsePosition(formatPosition(position)), position)
})

t.test('other texts are no positions', async (t) => {
  for (const text of ['', '0/1', '1.1.0/1\'', '1.1.0/1 ', '1.1.g/1', '1.1.0/123456789', '-1.1.0/1', '1..0/1', '1.1.0/1.x', '1.1.0/1\n']) {
    t.equal(parsePosition(text), null, JSON.stringify(text))
  }
})

t.test('positions are compared by their numbers', async (t) => {
  for (const [lsn, replayed, expected] of [
    ['0/1', '0/1', true], ['0/FFFFFF', '0/1000000', true], ['0/1000000', '0/FFFFFF', false],
    ['1/0', '0/FFFFFFFF', false], ['9/0', '10/0', true], ['10/0', '9/FFFFFFFF', false]
  ] as const) t.equal(isReached(lsn, replayed), expected, `${lsn} ${replayed}`)
})

t.test('of two positions the later one is kept: of one log by its number, otherwise that of the later timeline', async (t) => {
  t.equal(laterPosition('1.4.0/20', '1.4.0/10'), '1.4.0/20')
  t.equal(laterPosition('1.5.0/10', '1.4.0/20'), '1.5.0/10', 'an answer of the former primary that arrives late')
  t.equal(laterPosition('1.4.0/20', '1.5.0/10'), '1.5.0/10')
  t.equal(laterPosition('1.4.0/20', '2.1.0/10'), '2.1.0/10', 'of another system the last one')
  t.equal(laterPosition(null, '1.4.0/10'), '1.4.0/10')
})
