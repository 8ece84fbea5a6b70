import { createRequire } from 'node:module'
import t from 'tap'
import { Messages, type WireValue } from '../../../lib/postgres/messages.ts'

// What pg itself would write.
const { serialize } = createRequire(createRequire(import.meta.url).resolve('pg'))('pg-protocol')

const messages = new Messages()
const sent = (messages: Messages): Buffer => {
  const pieces: Buffer[] = []
  messages.send({ write: (bytes) => pieces.push(bytes) })
  return Buffer.concat(pieces)
}
const written = (write: () => void): Buffer => {
  write()
  return sent(messages)
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
function boundBy (bytes: Buffer): { rest: number } & Record<string, unknown> {
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

t.test('messages of a batch are kept together, and what was taken is not touched by what comes later', async t => {
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

t.test('messages of any number and size are written one behind the other', async t => {
  const texts = Array.from({ length: 300 }, (_, i) => 'ü€😀'.slice(0, 1 + i % 3).repeat(1 + i ** 2 % 30011))
  const bytes = written(() => { for (const text of texts) messages.query(text) })
  t.ok(bytes.equals(Buffer.concat(texts.map((text) => serialize.query(text)))))
  for (let rest = 8180; rest <= 8200; rest++) {
    t.ok(written(() => {
      messages.query('a'.repeat(rest))
      messages.parse('', 'SELECT 1')
      messages.sync()
    }).equals(Buffer.concat([serialize.query('a'.repeat(rest)), serialize.parse({ text: 'SELECT 1' }), serialize.sync()])), `behind a text of ${rest} bytes`)
  }
})

t.test('a message that is too large leaves nothing behind', async t => {
  const limited = new Messages(100000)
  const write = (size: number): void => {
    limited.parse('', 'SELECT $1')
    limited.bind('', ['a', Buffer.alloc(size)])
  }
  for (const size of [99999, 300000]) {
    t.throws(() => write(size), RangeError)
    limited.discard()
    limited.query('SELECT 1')
    t.same(sent(limited), serialize.query('SELECT 1'))
  }
  write(90000)
  t.equal(boundBy(sent(limited).subarray(serialize.parse({ text: 'SELECT $1' }).length)).rest, 0)
})
