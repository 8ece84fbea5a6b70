// What a user of Prisma can rely on.
import { connect } from 'node:net'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { SqlDriverAdapterFactory } from '@prisma/driver-adapter-utils'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../harness/postgres.ts'
import { waitFor } from '../../harness/wait-for.ts'
import { PrismaPgScope, separateSessions } from '../../lib/prisma/index.ts'
import { commitAndRollBack } from '../integration/libraries/commit-and-rollback.ts'
import { startShop } from '../integration/libraries/shop.ts'
import { Prisma, PrismaClient } from './generated/client.ts'

const postgres = await startTestPostgres(t)
type Source = ConstructorParameters<typeof PrismaPgScope>[0]

function clientOn (source: Source): PrismaClient {
  const adapter: SqlDriverAdapterFactory = new PrismaPgScope(source)
  return new PrismaClient({ adapter })
}

const names = async (client: Pick<PrismaClient, 'person'>): Promise<string[]> =>
  (await client.person.findMany({ orderBy: { id: 'asc' } })).map(({ name }) => name)
const add = (client: Pick<PrismaClient, 'person'>, name: string) => client.person.create({ data: { name } })

t.test('a request commits what Prisma wrote, and a throw rolls it back: one client for the app', async (t) => {
  const shop = await startShop(t, postgres)
  const prisma = clientOn(shop.db)
  await commitAndRollBack(t, shop, async (name) => {
    await add(prisma, name)
    t.ok((await names(prisma)).includes(name))
  })
})

t.test('a request commits what Prisma wrote, and a throw rolls it back: a client for the session', async (t) => {
  await commitAndRollBack(t, await startShop(t, postgres), (name, request) => add(clientOn(request.db), name))
})

t.test('relations, nested writes, aggregates, upserts and raw queries work', async (t) => {
  const { db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await db.scope(async () => {
    const ada = await prisma.person.findUniqueOrThrow({ where: { name: 'Ada' }, include: { pets: { orderBy: { id: 'asc' } } } })
    t.same(ada, { id: 1, name: 'Ada', balance: 10, pets: [{ id: 1, ownerId: 1, name: 'Rex' }, { id: 2, ownerId: 1, name: 'Tom' }] })
    const { id } = await prisma.person.create({ data: { name: 'Alan', pets: { create: [{ name: 'Leo' }, { name: 'Mia' }] } } })
    t.equal(await prisma.pet.count({ where: { owner: { id } } }), 2)
    t.same((await prisma.person.aggregate({ _sum: { balance: true } }))._sum, { balance: 30 })
    t.match(await prisma.person.upsert({ where: { name: 'Ada' }, create: { name: 'Ada' }, update: { balance: { increment: 1 } } }), { balance: 11 })
    t.same(await prisma.person.updateMany({ data: { balance: 5 } }), { count: 3 })
    t.same(await prisma.$queryRaw`SELECT full_name, ${2}::int + 1 AS n FROM person WHERE id = ${1}`, [{ full_name: 'Ada', n: 3 }])
    t.equal(await prisma.$executeRaw`UPDATE person SET balance = 7 WHERE id IN (${Prisma.join([1, 2])})`, 2)
    t.same(await prisma.$queryRawUnsafe('SELECT 1::int AS one'), [{ one: 1 }])
  })
})

t.test('concurrent queries of a session share a round trip', async (t) => {
  const { db, proxy } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await prisma.person.count()
  proxy.reset()
  await db.scope(() => Promise.all([1, 2, 3].map((n) => prisma.$queryRaw`SELECT ${n}::int AS n`)))
  t.equal(proxy.roundTrips, 2, 'the three, and COMMIT')
})

const transactions: [string, (client: PrismaClient, names: string[], fail: boolean) => Promise<unknown>][] = [
  ['$transaction(fn)', (client, names, fail) => client.$transaction(async (tx) => {
    for (const name of names) await add(tx, name)
    if (fail) throw new Error('not these')
  })],
  ['$transaction([…])', (client, names, fail) => client.$transaction([
    ...names.map((name) => add(client, name)), ...fail ? [add(client, 'Ada')] : []
  ])]
]
for (const [label, run] of transactions) {
  t.test(`${label} is a savepoint of the session: it is kept with it, or undone alone`, async (t) => {
    const { db, people } = await startShop(t, postgres)
    const prisma = clientOn(db)
    await db.scope(async () => {
      await add(prisma, 'before')
      await run(prisma, ['a', 'b'], false)
      await t.rejects(run(prisma, ['c'], true))
      t.same(await names(prisma), ['Ada', 'Grace', 'before', 'a', 'b'])
      await add(prisma, 'after')
    })
    const stored = ['Ada', 'Grace', 'before', 'a', 'b', 'after']
    t.same(await people(), stored)
    await t.rejects(db.scope(async () => {
      await run(prisma, ['d'], false)
      throw new Error('all of it')
    }), { message: 'all of it' })
    t.same(await people(), stored)
  })

  t.test(`${label} outside of all sessions, and in mode 'autocommit', is a transaction of its own`, async (t) => {
    const { db, people } = await startShop(t, postgres)
    const prisma = clientOn(db)
    await run(prisma, ['a', 'b'], false)
    await t.rejects(run(prisma, ['c'], true))
    t.same(await people(), ['Ada', 'Grace', 'a', 'b'])
    await db.scope(async (session) => {
      const own = clientOn(session)
      await run(own, ['d'], false)
      t.ok((await people()).includes('d'), 'committed at once')
      await t.rejects(run(own, ['e'], true))
    }, { mode: 'autocommit' })
    t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'd'])
    t.equal(db.stats().inUse, 0)
  })
}

t.test('transactions nest, and an inner one is undone alone', async (t) => {
  const { db, people, database } = await startShop(t, postgres)
  const prisma = clientOn(db)
  const nested = () => prisma.$transaction(async (tx) => {
    await add(tx, 'outer')
    await tx.$transaction((inner) => add(inner, 'inner'))
    await t.rejects(tx.$transaction(async (inner) => {
      await add(inner, 'undone')
      await add(inner, 'Ada')
    }), { code: 'P2002' })
    await add(tx, 'last')
  })
  await db.scope(nested)
  t.same(await people(), ['Ada', 'Grace', 'outer', 'inner', 'last'])
  await postgres.query('DELETE FROM person WHERE id > 2', undefined, database)
  await nested()
  t.same(await people(), ['Ada', 'Grace', 'outer', 'inner', 'last'], 'outside of a session as well')
})

t.test('code that ignores the transaction it is called in is part of it, and does not hang', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await db.scope(async (session) => {
    await t.rejects(prisma.$transaction(async (tx) => {
      await add(tx, 'a')
      await add(prisma, 'b')
      await session.query("INSERT INTO person (full_name) VALUES ('c')")
      throw new Error('none of them')
    }), { message: 'none of them' })
  })
  t.same(await people(), ['Ada', 'Grace'])
})

t.test('transaction(fn) of the session is followed, and undone with what Prisma did in it', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await db.scope(async (session) => {
    await session.transaction(() => add(prisma, 'kept'))
    await t.rejects(session.transaction(async () => {
      await add(prisma, 'undone')
      throw new Error('this one')
    }))
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('the isolation level is honoured where nothing ran yet, and an error elsewhere', async (t) => {
  const { db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  const level = () => prisma.$transaction(async (tx) => {
    const [row] = await tx.$queryRaw<[{ level: string }]>`SELECT current_setting('transaction_isolation') AS level`
    return row.level
  }, { isolationLevel: 'Serializable' })
  t.equal(await level(), 'serializable')
  t.equal(await db.scope(level), 'serializable')
  await t.rejects(db.scope(async (session) => {
    await session.query('SELECT 1')
    await level()
  }), { cause: { code: 'FST_PG_SCOPE_SESSION_STATE', details: /cannot be ISOLATION LEVEL SERIALIZABLE/ } })
})

t.test('errors of the server are those of Prisma, with the SQLSTATE', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.query('ALTER TABLE pet ALTER CONSTRAINT pet_owner_id_fkey NOT DEFERRABLE')
  await db.query('ALTER TABLE person ADD CONSTRAINT balance_not_negative CHECK (balance >= 0)')
  const prisma = clientOn(db)
  const sqlstate = (originalCode: string) => ({ driverAdapterError: { cause: { originalCode } } })
  const cases: [string, string, object, () => Promise<unknown>][] = [
    ['P2002', '23505', { cause: { kind: 'UniqueConstraintViolation', constraint: { fields: ['full_name'] } } }, () => add(prisma, 'Ada')],
    ['P2003', '23503', { cause: { constraint: { index: 'pet_owner_id_fkey' } } }, () => prisma.pet.create({ data: { ownerId: 99, name: 'x' } })],
    ['P2039', '23514', { cause: { constraint: 'balance_not_negative' } }, () => prisma.person.create({ data: { name: 'x', balance: -1 } })],
    ['P2010', '42703', { cause: { kind: 'ColumnNotFound', column: 'nothing' } }, () => prisma.$queryRaw`SELECT nothing`],
    ['P2010', '40001', { cause: { kind: 'TransactionWriteConflict' } }, () => prisma.$executeRaw`DO $$ BEGIN RAISE SQLSTATE '40001'; END $$`],
    ['P2010', '22012', { cause: { kind: 'postgres', message: 'division by zero' } }, () => prisma.$queryRaw`SELECT 1 / 0`],
    ['P2021', '42P01', { cause: { kind: 'TableDoesNotExist' } }, () => prisma.sample.findMany()]
  ]
  for (const [code, originalCode, driverAdapterError, call] of cases) {
    await t.rejects(call(), { code, meta: { ...sqlstate(originalCode), driverAdapterError } }, `${code} ${originalCode}`)
    await t.rejects(db.scope(() => prisma.$transaction(call as never)), { code, meta: sqlstate(originalCode) }, `${code} in a session`)
  }
  await t.rejects(prisma.$queryRaw`SELECT interval '1 day'`, { code: 'P2010', message: /1186/ })
})

t.test('an error of the plugin keeps its status and message, and is the cause', async (t) => {
  const { app, db } = await startShop(t, postgres, { pool: { max: 1, acquireTimeout: 1000 } })
  const prisma = clientOn(db)
  app.get('/', () => names(prisma))
  await db.scope(async (session) => {
    await session.query('SELECT 1')
    const response = await app.inject('/')
    t.equal(response.statusCode, 503)
    t.equal(response.headers['retry-after'], '1')
    t.match(response.json().message, /FST_PG_SCOPE_POOL_/)
  })
  await t.rejects(db.scope(async (session) => {
    await session.query('nonsense').catch(() => {})
    await names(prisma)
  }), { name: 'FastifyError', cause: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' } })
})

t.test('a failed query that the handler swallows prevents a success, and $transaction makes it harmless', async (t) => {
  const { app, people, db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  const failing = (client: Pick<PrismaClient, 'person'>) => add(client, 'Ada')
  app.post('/swallowed', async () => {
    await add(prisma, 'lost')
    await failing(prisma).catch(() => {})
    return {}
  })
  app.post('/undone', async () => {
    await add(prisma, 'kept')
    await prisma.$transaction(failing).catch(() => {})
    return {}
  })
  t.equal((await app.inject({ method: 'POST', url: '/swallowed' })).statusCode, 500)
  t.equal((await app.inject({ method: 'POST', url: '/undone' })).statusCode, 200)
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('a conflict makes a route with `retry` run again', async (t) => {
  const { app, db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  app.get('/', { config: { db: { retry: 3 } } }, async ({ db }) => {
    if (db.attempt < 2) await prisma.$executeRaw`DO $$ BEGIN RAISE SQLSTATE '40001'; END $$`
    return { attempt: db.attempt }
  })
  t.same((await app.inject('/')).json(), { attempt: 2 })
})

const sampleTable = `
  CREATE TYPE colour AS ENUM ('red', 'green');
  CREATE TABLE sample (
    id int PRIMARY KEY, big bigint NOT NULL, exact numeric NOT NULL, ratio float8 NOT NULL, flag boolean NOT NULL,
    day date NOT NULL, clock time NOT NULL, zoned timestamptz NOT NULL, local timestamp NOT NULL, data jsonb NOT NULL,
    bytes bytea NOT NULL, key uuid NOT NULL, colour colour NOT NULL, tags text[], bigs bigint[], exacts numeric[],
    flags boolean[], times timestamptz[], blobs bytea[], objects jsonb[], colours colour[]
  )`

for (const zone of ['UTC', 'Asia/Kolkata']) {
  t.test(`values of every type come back as they were written, with the server in ${zone}`, async (t) => {
    const { db } = await startShop(t, postgres, { settings: () => ({ timezone: zone }) })
    await db.query(sampleTable)
    const prisma = clientOn(db)
    const time = new Date('2026-01-31T22:30:15.125Z')
    const sample = {
      id: 1,
      big: 9007199254740993n,
      exact: new Prisma.Decimal('12345678901234567890.0123456789'),
      ratio: 0.1,
      flag: false,
      day: new Date('2026-01-31'),
      clock: new Date('1970-01-01T22:30:15.125Z'),
      zoned: time,
      local: time,
      data: { a: [1, 'two', null] },
      bytes: Uint8Array.from([0, 1, 254, 255]),
      key: '6f0c1e54-0c2f-4f5e-8a5c-0d6b1a2c3d4e',
      colour: 'red' as const,
      tags: ['a', 'with "quotes", and commas', ''],
      bigs: [1n, -9007199254740993n],
      exacts: [new Prisma.Decimal('0.1'), new Prisma.Decimal('-2')],
      flags: [true, false],
      times: [time],
      blobs: [Uint8Array.from([255, 0])],
      objects: [{ a: 1 }, [true]],
      colours: ['green' as const, 'red' as const]
    }
    await db.scope(async () => {
      await prisma.sample.create({ data: sample })
      const where = { id: 1, zoned: time, day: sample.day, local: time }
      const read = await prisma.sample.findUniqueOrThrow({ where })
      for (const [name, value] of Object.entries(sample)) t.same(read[name as keyof typeof read], value, name)
      const [raw] = await prisma.$queryRaw<any[]>`
        SELECT big, exact, day, zoned, local, data, bytes, tags, bigs, flags, times, zoned = ${time} AS same, key FROM sample`
      for (const [name, value] of Object.entries(raw)) t.same(value, { ...sample, same: true }[name], `${name}, raw`)
    })
  })
}

t.test('times of other zones and offsets of seconds are converted, and money loses its sign', async (t) => {
  const { db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await db.scope(async (session) => {
    await session.query("SET LOCAL timezone = 'Asia/Kolkata'")
    const [row] = await prisma.$queryRaw<any[]>`
      SELECT timestamptz '1800-01-01 00:00:00+00' AS old, timetz '01:00:00+02' AS time, '-1,234.50'::money AS money, '"a"'::json AS json`
    t.same(row, { old: new Date('1800-01-01'), time: new Date('1970-01-01T23:00:00Z'), money: new Prisma.Decimal('-1234.5'), json: 'a' })
  })
})

/** Sends two requests in one write: the server begins both in one turn of the event loop. */
async function inOneTurn (t: Test, port: number, ...paths: string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  socket.write(paths.map((path, index) => `GET ${path} HTTP/1.1\r\nHost: a\r\n${index === paths.length - 1 ? 'Connection: close\r\n' : ''}\r\n`).join(''))
  let answer = ''
  for await (const chunk of socket) answer += chunk
  return answer
}

t.test('with separateSessions, requests of one turn do not read or write in each other\'s session', async (t) => {
  const { app, db, people } = await startShop(t, postgres)
  const prisma = clientOn(db).$extends(separateSessions(db))
  const tenants = async (id: string) => {
    const [row] = await prisma.$queryRaw<any[]>`SELECT current_setting('app.tenant') AS tenant`
    return `tenant ${row.tenant} in request ${id}`
  }
  const ofTenant = (request: FastifyRequest) => ({ 'app.tenant': (request.params as { id: string }).id })
  app.get('/find/:id', { config: { db: { settings: ofTenant } } }, async (request) => {
    const { id } = request.params as { id: string }
    const own = prisma.person.findUnique({ where: { id: Number(id) } })
    return { found: (await own)?.name, tenants: await tenants(id) }
  })
  app.get('/write/:id', async (request, reply) => {
    const { id } = request.params as { id: string }
    await prisma.$transaction([
      prisma.person.create({ data: { name: `first of ${id}` } }), prisma.person.create({ data: { name: `second of ${id}` } })
    ])
    return reply.code(id === '1' ? 400 : 200).send({})
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const before = db.stats().counters.committed
  const found = await inOneTurn(t, port, '/find/1', '/find/2')
  t.match(found, /"found":"Ada","tenants":"tenant 1 in request 1"[^]*"found":"Grace","tenants":"tenant 2 in request 2"/)
  t.equal(db.stats().counters.committed - before, 2)
  await inOneTurn(t, port, '/write/1', '/write/2')
  t.same(await people(), ['Ada', 'Grace', 'first of 2', 'second of 2'])
})

t.test('a transaction that runs into its timeout is rolled back, and the session goes on', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const prisma = clientOn(db)
  await db.scope(async () => {
    await t.rejects(prisma.$transaction(async (tx) => {
      await add(tx, 'late')
      await delay(100)
      await add(tx, 'later')
    }, { timeout: 50 }), { code: 'P2028' })
    await add(prisma, 'kept')
  })
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('a transaction that nobody awaits is not kept in part', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const prisma = clientOn(db)
  let forgotten: Promise<unknown> | undefined
  await t.rejects(db.scope(async () => {
    await new Promise<void>((resolve) => {
      forgotten = prisma.$transaction(async (tx) => {
        await add(tx, 'half')
        resolve()
        await new Promise((resolve) => setImmediate(resolve))
        await add(tx, 'other half')
      }).catch(() => {})
    })
  }))
  await forgotten
  t.same(await people(), ['Ada', 'Grace'])
  await waitFor(() => db.stats().inUse === 0)
})

t.test('a function chooses the session for each query, and a script of several statements runs', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const adapter = await new PrismaPgScope(() => db.current()).connect()
  await db.scope(async () => {
    await adapter.executeScript("INSERT INTO person (full_name) VALUES ('a;b'); BEGIN; INSERT INTO person (full_name) VALUES ('c'); COMMIT;")
    await adapter.executeScript('')
  })
  t.same(await people(), ['Ada', 'Grace', 'a;b', 'c'])
  await t.rejects(clientOn(() => db.current()).person.count(), { cause: { code: 'FST_PG_SCOPE_NO_SESSION' } })
  t.throws(() => new PrismaPgScope(null as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /PrismaPgScope\(\).*, got null/ })
  t.throws(() => separateSessions({} as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /separateSessions\(\).*, got/ })
})

t.test('$disconnect leaves the engine open, and the client can be used again', async (t) => {
  const { db } = await startShop(t, postgres)
  const prisma = clientOn(db)
  t.equal(await prisma.person.count(), 2)
  await prisma.$disconnect()
  t.equal((await db.query('SELECT 1 AS one')).rows[0].one, 1)
  t.equal(await prisma.person.count(), 2)
})
