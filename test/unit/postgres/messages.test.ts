import { createRequire } from 'node:module'
import t from 'tap'
import { Messages, type WireValue } from '../../../lib/postgres/messages.ts'

// What pg itself would write.
const { serialize } = createRequire(createRequire(import.meta.url).resolve('pg'))('pg-protocol')

const messages = new Messages()
const written = (write: () => void): Buffer => {
  write()
  return messages.take()
}

t.test('every message is the one that pg writes', async t => {
  t.same(written(() => messages.parse('', 'SELECT 1')), serialize.parse({ text: 'SELECT 1' }))
  t.same(written(() => messages.parse('näme', 'SELECT \'ü€😀\'')), serialize.parse({ name: 'näme', text: 'SELECT \'ü€😀\'' }))
  t.same(written(() => messages.describe()), serialize.describe({ type: 'P' }))
  t.same(written(() => messages.execute()), serialize.execute({}))
  t.same(written(() => messages.close('name')), serialize.close({ type: 'S', name: 'name' }))
  t.same(written(() => messages.sync()), serialize.sync())
  t.same(written(() => messages.query('SELECT 1; SELECT 2')), serialize.query('SELECT 1; SELECT 2'))
})

/** What a Bind says: its statement, and each value with its format. */
function boundBy (bytes: Buffer): unknown {
  let at = 5
  const string = (): string => {
    const end = bytes.indexOf(0, at)
    const text = bytes.toString('utf8', at, end)
    at = end + 1
    return text
  }
  const int16 = (): number => bytes.readInt16BE((at += 2) - 2)
  const int32 = (): number => bytes.readInt32BE((at += 4) - 4)
  const list = <T>(read: () => T): T[] => Array.from({ length: int16() }, read)
  const value = (): Buffer | null => {
    const length = int32()
    if (length === -1) return null
    at += length
    return bytes.subarray(at - length, at)
  }
  const bound = { type: bytes.toString('latin1', 0, 1), length: bytes.readInt32BE(1), portal: string(), name: string(), formats: list(int16), values: list(value), results: list(int16) }
  return { ...bound, rest: bytes.length - at }
}

t.test('a Bind carries text, bytes and NULL, each as it is, and asks for rows as text', async t => {
  const long = '€'.repeat(20000)
  const cases: [WireValue[], number[]][] = [
    [[], []],
    [['', 'a', null, 'ü€😀'], []],
    [['a', Buffer.from([0, 255]), null, Buffer.alloc(0)], [0, 1, 0, 1]],
    [[long, Buffer.alloc(100000, 7)], [0, 1]]
  ]
  for (const [values, formats] of cases) {
    const bytes = written(() => messages.bind('name', values))
    t.same(boundBy(bytes), {
      type: 'B',
      length: bytes.length - 1,
      portal: '',
      name: 'name',
      formats,
      values: values.map((value) => value === null ? null : Buffer.from(value as string)),
      results: [],
      rest: 0
    })
  }
})

t.test('messages of a batch are one piece, and what was taken is not touched by what comes later', async t => {
  for (const size of [10, 5000, 70000, 200000]) {
    const batch = (text: string): Buffer => written(() => {
      messages.parse('', text)
      messages.bind('', [text])
      messages.sync()
    })
    const first = batch('a'.repeat(size))
    const copy = Buffer.from(first)
    batch('b'.repeat(size))
    t.ok(first.equals(copy), `${size} bytes`)
  }
})
