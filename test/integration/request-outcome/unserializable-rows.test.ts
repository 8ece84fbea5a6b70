import { Readable } from 'node:stream'
import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { openRequest, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

/** Rows whose column `bad` is read from int8 as the given value, from the row numbered `from` on. */
const makers: Record<string, () => unknown> = {
  'a BigInt': () => 1n,
  'a circular object': () => { const it: Record<string, unknown> = {}; it.it = it; return it },
  'an object whose toJSON() throws': () => ({ toJSON () { throw new Error('never as JSON') } })
}
const rows = (from: number, to: number) => `SELECT n, repeat('x', 200) AS filler, CASE WHEN n >= ${from} THEN n::int8 END AS bad FROM generate_series(1, ${to}) AS n`

for (const [what, make] of Object.entries(makers)) {
  const types = { getTypeParser: (oid: number) => oid === 20 ? make : String }
  test(`${what} in a row of a streamed answer breaks the body under back-pressure, and nothing is saved`, { plugin: { types: types as never } }, async (t, { app, log, listen, saved }) => {
    let read = 0
    app.get<{ Params: { from: string } }>('/:from', async (request) => {
      await request.db.query(insert, ['lost'])
      const stream = request.db.stream(rows(Number(request.params.from), 50000))
      stream.on('data', () => { read++ })
      return stream
    })
    const port = await listen()
    const first = await send(port, { path: '/1' })
    t.match({ status: first.status, complete: first.complete }, { status: 500, complete: true }, 'an ordinary error before the first byte')
    t.notOk((await send(port, { path: '/20000' })).complete, 'a broken body')

    // A client that reads nothing for a while: the rows wait, and go on when it reads.
    read = 0
    const { socket, response } = openRequest(port, { path: '/40000' })
    socket.pause()
    await waitFor(() => read > 0)
    let before = -1
    await waitFor(() => { const still = read === before; before = read; return still })
    socket.resume()
    t.notOk((await response).complete, 'a broken body for a slow client')
    socket.destroy()
    t.ok(log.some(({ level, err }) => level >= 40 || err !== undefined), 'the log tells')
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), [])
  })
}

test('rows that a transform makes into objects break the body, and the process lives', {}, async (t, { app, listen, saved }) => {
  app.get<{ Params: { from: string } }>('/:from', async (request) => {
    await request.db.query(insert, ['lost'])
    const from = Number(request.params.from)
    const numbers = request.db.stream('SELECT n FROM generate_series(1, 5000) AS n')
    return Readable.from((async function * () {
      for await (const { n } of numbers) yield n < from ? 'x'.repeat(100) : { n }
    })())
  })
  const port = await listen()
  for (const from of [1, 3000]) {
    const { status, complete } = await send(port, { path: `/${from}` })
    t.notOk(status < 400 && complete, 'never a complete success')
    await waitFor(() => app.db.stats().inUse === 0)
  }
  t.same(await saved(), [])
})
