import { test } from 'tap'
import { Framer, cStrings } from '../../../harness/pg-proxy/framer.ts'

function message (type: string, body: string): Buffer {
  const header = Buffer.alloc(4)
  header.writeInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), header, Buffer.from(body)])
}

const stream = Buffer.concat([
  message('', 'startup'), message('Q', 'select\0'), message('S', ''), message('d', 'x'.repeat(20)), message('S', '')
])

function read (chunkSize: number): Array<[string, string]> {
  const framer = new Framer('untyped', 'Q')
  const frames: Array<[string, string]> = []
  for (let at = 0; at < stream.length; at += chunkSize) {
    for (const { type, body } of framer.read(stream.subarray(at, at + chunkSize))) {
      frames.push([type, body.toString()])
      framer.framing = 'typed'
    }
  }
  return frames
}

test('finds the same messages whatever the chunks, and keeps only the bodies it was asked for', async t => {
  for (let size = 1; size <= stream.length; size++) {
    t.same(read(size), [['', 'startup'], ['Q', 'select\0'], ['S', ''], ['d', ''], ['S', '']], `chunks of ${size}`)
  }
})

test('tells where a message stands in the chunk', async t => {
  const framer = new Framer('typed', '')
  t.match([...framer.read(stream.subarray(11, 26))], [{ type: 'Q', start: 0, end: 12 }])
  t.match([...framer.read(stream.subarray(26, 40))], [{ type: 'S', start: 0, end: 2 }])
})

test('leaves alone what is not this protocol', async t => {
  const framer = new Framer('typed', '')
  t.same([...framer.read(Buffer.from('Q\xff\xff\xff\xff and more', 'latin1'))], [])
  t.equal(framer.framing, 'opaque')
  t.same([...framer.read(stream)], [])
})

test('reads zero-terminated strings', async t => {
  t.same(cStrings(Buffer.from('name\0text\0rest'), 3), ['name', 'text'])
})
