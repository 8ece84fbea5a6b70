import pg from 'pg'
import { connect } from 'node:net'
import { once } from 'node:events'
import tap, { test } from 'tap'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Test } from 'tap'

const db = await startTestPostgres(tap)

async function setUp (t: Test, options: pg.ClientConfig = {}) {
  const proxy = await startPgProxy(t, db)
  const client = await connectClient(t, proxy.connectionString(db.connectionString), options)
  return { proxy, client }
}

async function connectClient (t: Test, connectionString: string, options: pg.ClientConfig = {}) {
  const client = new pg.Client({ connectionString, ...options })
  client.on('error', () => {})
  t.teardown(() => { client.end().catch(() => {}) })
  await client.connect()
  return client
}

/** pg's connection, for tests that write the protocol themselves. */
interface RawConnection {
  stream: { cork: () => void, uncork: () => void }
  parse: (query: { text: string, name?: string }) => void
  bind: (config: object) => void
  execute: (config: object) => void
  describe: (config: object) => void
  flush: () => void
  sync: () => void
  once: (event: string, listener: () => void) => void
}

/** Takes the client's turn, does what the test wants, and is over with the next ReadyForQuery. */
function submit (client: pg.Client, steps: (connection: RawConnection) => unknown): Promise<void> {
  return new Promise(resolve => {
    const quiet = () => {}
    client.query({
      submit: (connection: unknown) => { steps(connection as RawConnection) },
      handleRowDescription: quiet,
      handleDataRow: quiet,
      handleCommandComplete: quiet,
      handleError: () => resolve(),
      handleReadyForQuery: () => resolve()
    } as unknown as pg.Submittable)
  })
}

function whole (connection: RawConnection, text: string): void {
  connection.parse({ text })
  connection.bind({})
  connection.describe({ type: 'P' })
  connection.execute({})
}

test('connecting costs no round trip', async t => {
  const { proxy } = await setUp(t)
  t.match(proxy, { connections: 1, open: 1, syncs: 0, roundTrips: 0, statements: [] })
})

test('counts each simple query and each parameterised one once', async t => {
  const { proxy, client } = await setUp(t)
  await client.query('BEGIN')
  await client.query('SELECT $1::int', [1])
  await client.query('SELECT 1; SELECT 2')
  await client.query('SELECT no_such_column').catch(() => {})
  await client.query('ROLLBACK')
  const statements = ['BEGIN', 'SELECT $1::int', 'SELECT 1; SELECT 2', 'SELECT no_such_column', 'ROLLBACK']
  t.match(proxy, { syncs: 5, roundTrips: 5, describes: 1, statements, executed: statements })
  t.ok(proxy.bytes.fromClient > 100)
  t.ok(proxy.bytes.fromServer > 100)
})

test('reset starts all counters again', async t => {
  const { proxy, client } = await setUp(t)
  await client.query('SELECT 1')
  proxy.reset()
  const zero = { connections: 0, syncs: 0, roundTrips: 0, statements: [], bytes: { fromClient: 0, fromServer: 0 } }
  t.match(proxy, zero)
  t.match([...proxy.perConnection.values()], [zero])
  await client.query('SELECT 2')
  t.match(proxy, { syncs: 1, roundTrips: 1, statements: ['SELECT 2'] })
})

test('a named statement is parsed once, and executed twice', async t => {
  const { proxy, client } = await setUp(t)
  for (const value of [1, 2]) await client.query({ name: 'one', text: 'SELECT $1::int', values: [value] })
  t.match(proxy, { statements: ['SELECT $1::int'], executed: ['SELECT $1::int', 'SELECT $1::int'], syncs: 2 })
  t.equal(proxy.executed.length, 2)
  t.equal(proxy.statements.length, 1)
})

test('a batch with one Sync is one round trip', async t => {
  const { proxy, client } = await setUp(t)
  await submit(client, connection => {
    for (const text of ['BEGIN', 'SELECT 1', 'COMMIT']) whole(connection, text)
    connection.sync()
  })
  t.match(proxy, { syncs: 1, roundTrips: 1, statements: ['BEGIN', 'SELECT 1', 'COMMIT'], describes: 3 })
})

test('a batch that fails half way is one round trip, and so is what follows', async t => {
  const { proxy, client } = await setUp(t)
  await submit(client, connection => {
    for (const text of ['BEGIN', 'SELECT 1/0', 'SELECT 2', 'COMMIT']) whole(connection, text)
    connection.sync()
  })
  await client.query('ROLLBACK')
  t.match(proxy, { syncs: 2, roundTrips: 2 })
})

test('pipelined queries are several Syncs and one round trip', async t => {
  const { proxy, client } = await setUp(t, { pipeline: true } as pg.ClientConfig)
  proxy.delay(5)
  await Promise.all([client.query('SELECT 1'), client.query('SELECT $1::int', [2]), client.query('SELECT 3')])
  t.match(proxy, { syncs: 3, roundTrips: 1 })
  await client.query('SELECT 4')
  t.match(proxy, { syncs: 4, roundTrips: 2 })
})

test('waiting behind a Flush is a round trip; a Flush on the way to the Sync is not', async t => {
  const { proxy, client } = await setUp(t)
  await submit(client, connection => {
    connection.stream.cork()
    whole(connection, 'SELECT 1')
    connection.flush()
    whole(connection, 'SELECT 2')
    connection.sync()
    connection.stream.uncork()
  })
  t.match(proxy, { syncs: 1, roundTrips: 1 })
  proxy.reset()
  await submit(client, connection => {
    whole(connection, 'SELECT 1')
    connection.flush()
    connection.once('commandComplete', () => connection.sync())
  })
  t.match(proxy, { syncs: 1, roundTrips: 2 })
})

test('an error behind a Flush does not lose count', async t => {
  const { proxy, client } = await setUp(t)
  await submit(client, connection => {
    whole(connection, 'SELECT 1/0')
    connection.flush()
    connection.once('errorMessage', () => {
      whole(connection, 'SELECT 1')
      connection.sync()
    })
  })
  await client.query('SELECT 2')
  t.match(proxy, { syncs: 2, roundTrips: 3 })
})

test('COPY FROM STDIN waits twice', async t => {
  const { proxy, client } = await setUp(t)
  await client.query('CREATE TEMP TABLE copied (id int)')
  proxy.reset()
  // pg answers CopyInResponse with CopyFail.
  await t.rejects(client.query('COPY copied FROM STDIN'), { code: '57014' })
  t.equal(proxy.roundTrips, 2)
  await client.query('SELECT 1')
  t.match(proxy, { syncs: 2, roundTrips: 3 })
})

test('large results and large statements pass unharmed', async t => {
  const { proxy, client } = await setUp(t)
  const { rows: [row] } = await client.query("SELECT repeat('x', 30000000) AS text")
  t.equal(row.text.length, 30_000_000)
  const text = 'y'.repeat(10_000_000)
  const { rows: [echo] } = await client.query('SELECT $1::text AS text', [text])
  t.equal(echo.text === text, true)
  t.match(proxy, { syncs: 2, roundTrips: 2 })
})

test('counts by connection as well', async t => {
  const { proxy, client } = await setUp(t)
  const other = await connectClient(t, proxy.connectionString(db.connectionString))
  await client.query('SELECT 1')
  await other.query('SELECT 2')
  await other.query('SELECT 3')
  t.match([...proxy.perConnection], [[1, { statements: ['SELECT 1'], syncs: 1 }], [2, { statements: ['SELECT 2', 'SELECT 3'], roundTrips: 2 }]])
  t.match(proxy, { connections: 2, syncs: 3, open: 2 })
  await other.end()
  await waitFor(() => proxy.open === 1)
})

test('a client that asks for TLS first is counted as one', async t => {
  const { proxy } = await setUp(t)
  await t.rejects(connectClient(t, proxy.connectionString(db.connectionString), { ssl: true }), {
    message: /does not support SSL/
  })
  const socket = connect(proxy.port, proxy.host)
  const sslRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])
  socket.write(sslRequest)
  const [answer] = await once(socket, 'data')
  t.equal(String(answer), 'N')
  const startup = Buffer.from('\0\0\0\0\0\x03\0\0user\0nobody\0database\0nothing\0\0', 'latin1')
  startup.writeInt32BE(startup.length)
  socket.write(startup)
  const [reply] = await once(socket, 'data')
  t.match(String(reply[0]), String('R'.charCodeAt(0)))
  socket.destroy()
  t.equal(proxy.connections, 2)
})

test('counts cancel requests, and those whose client did not wait', async t => {
  const { proxy, client } = await setUp(t)
  const { processID, secretKey } = client as unknown as { processID: number, secretKey: number }
  const packet = Buffer.alloc(16)
  for (const [index, value] of [16, 80877102, processID, secretKey].entries()) packet.writeInt32BE(value, index * 4)
  for (const leave of ['after', 'before'] as const) {
    const sleeping = client.query('SELECT pg_sleep(60)').then(() => 'slept', error => error.code)
    await waitFor(async () => (await db.activity()).some(row => row.state === 'active' && row.query.includes('pg_sleep')))
    const socket = connect(proxy.port, proxy.host)
    await once(socket, 'connect')
    socket.on('data', () => {})
    if (leave === 'before') socket.end(packet)
    else socket.write(packet)
    await once(socket, 'close')
    t.equal(await sleeping, '57014')
  }
  t.match(proxy, { cancels: 2, cancelsClosedEarly: 1, connections: 1 })
})
