import t from 'tap'
import { errorFields, errorMessage, firstColumn, Frames, message, query, stringsOf } from '../../../lib/testing/frames.ts'

t.test('messages are found whatever the boundaries of the chunks', async (t) => {
  const messages = [query('SELECT 1'), message('S'), message('B', 'portal\0statement\0', Buffer.alloc(70_000)), message('X')]
  const bytes = Buffer.concat(messages)
  for (const size of [1, 3, 7, 65_536, bytes.length]) {
    const frames = new Frames()
    const found: Buffer[] = []
    for (let at = 0; at < bytes.length; at += size) found.push(...frames.read(bytes.subarray(at, at + size)))
    t.ok(Buffer.concat(found).equals(bytes), `${size} bytes at a time`)
    t.equal(found.length, messages.length)
  }
  t.same(stringsOf(messages[2]!, 2), ['portal', 'statement'])
})

t.test('the fields of errors and the first column of rows are read', async (t) => {
  t.match(errorFields(errorMessage('0A000', 'no – never')), { S: 'ERROR', C: '0A000', M: 'no – never' })
  t.equal(firstColumn(message('D', Buffer.from([0, 1, 0, 0, 0, 2]), 'ab')), 'ab')
  t.equal(firstColumn(message('D', Buffer.from([0, 1, 255, 255, 255, 255]))), null)
})
