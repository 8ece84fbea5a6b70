import pg from 'pg'
import t from 'tap'
import { PreparedStatements } from '../../../lib/postgres/prepared-statements.ts'
import { olderPgBouncer, ServerParameters } from '../../../lib/pgbouncer/detect.ts'
import { type InspectedConnection, PoolerWatch } from '../../../lib/pgbouncer/watch.ts'

const target = { host: 'localhost', port: 5432, database: 'app', user: 'app' }
const log = Object.assign(Object.create(null), { info () {}, warn () {} })

function watchServer (timeouts: Record<string, string>) {
  const watch = new PoolerWatch({ pooler: 'auto', preparedStatements: undefined }, target, timeouts, log)
  watch.found({ kind: 'none' })
  /** A connection whose startup packet is sent now. It logs in and is answered later. */
  const open = (announcedId: number) => {
    const connection: InspectedConnection = {
      sharable: true,
      serial: false,
      poolsTransactions: null,
      baseline: watch.baseline(),
      prepared: watch.prepared() as PreparedStatements,
      onBackendKnown: null
    }
    const client = Object.assign(new pg.Client(), { processID: announcedId })
    return {
      connection,
      logsIn: () => watch.inspect(connection, new ServerParameters(client), true),
      answers: (backend: number) => connection.onBackendKnown!(backend)
    }
  }
  return { watch, open }
}

/** What PgBouncer before 1.26 says. */
const refusal = Object.assign(new Error('unsupported startup parameter: statement_timeout'), { code: '08P01' })

t.test('an older PgBouncer is known as one although a direct connection from before it answers late', async (t) => {
  const { watch, open } = watchServer({ statement_timeout: '20s' })
  const early = open(1)
  early.logsIn()
  t.ok(watch.appeared(refusal))
  const behind = open(2)
  early.answers(1)
  t.same(watch.pooler, { kind: 'none' })
  behind.logsIn()
  behind.answers(3)
  t.same(watch.pooler, olderPgBouncer)
  t.notOk(behind.connection.serial)
  t.equal(behind.connection.prepared, null)
})

t.test('a direct server is known as one again although a connection through an older PgBouncer answers late', async (t) => {
  const { watch, open } = watchServer({ statement_timeout: '20s' })
  t.ok(watch.appeared(refusal))
  const behind = open(2)
  behind.logsIn()
  const direct = open(1)
  direct.logsIn()
  direct.answers(1)
  behind.answers(3)
  t.same(watch.pooler, olderPgBouncer, 'never a pooler of another kind')
  const next = open(1)
  next.logsIn()
  next.answers(1)
  t.same(watch.pooler, { kind: 'none' })
})

t.test('a pooler that accepts settings in the startup packet is no older PgBouncer', async (t) => {
  const { watch, open } = watchServer({ statement_timeout: '20s' })
  t.ok(watch.appeared(refusal))
  const direct = open(1)
  direct.logsIn()
  direct.answers(1)
  const behind = open(2)
  behind.logsIn()
  behind.answers(3)
  t.same(watch.pooler, { kind: 'unknown' })
  t.ok(behind.connection.serial)
})
