import { readFile } from 'node:fs/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { certificate, switchTlsOn } from '../../../harness/server-tls.ts'
import { onlyDirect } from '../../../harness/variant.ts'

const ca = await readFile(certificate, 'utf8')
const db = await startTestPostgres(t, { password: 's3cret' })
await switchTlsOn(db)

async function boot (t: Test, options: PgScopeOptions) {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(pgScope, options)
  await app.ready()
  const { rows: [row] } = await app.db.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
  return row.ssl as boolean
}

const url = `postgres://${db.user}:s3cret@${db.host}:${db.port}/${db.database}`
const tls = onlyDirect(t, 'the server itself has a certificate, PgBouncer has none here')

for (const mode of ['disable', 'no-verify', 'verify-full']) {
  tls.test(`the option ssl wins over sslmode=${mode}: the certificate is verified`, async (t) => {
    const connectionString = `${url}?sslmode=${mode}`
    t.equal(await boot(t, { connectionString, ssl: { ca } }), true, 'by the certificate that was given')
    await t.rejects(boot(t, { connectionString, ssl: true }), { code: 'FST_PG_SCOPE_UNREACHABLE', details: /self-signed certificate/ })
    t.equal(await boot(t, { connectionString, ssl: false }), false, 'or without TLS')
  })
}

tls.test('what a URL says about TLS is done', async (t) => {
  t.equal(await boot(t, { connectionString: `${url}?sslmode=disable` }), false)
  t.equal(await boot(t, { connectionString: `${url}?sslmode=no-verify` }), true)
  t.equal(await boot(t, { connectionString: `${url}?sslrootcert=${certificate}` }), true)
  t.equal(await boot(t, { connectionString: `${url}?sslmode=no-verify&channel_binding=require` }), true)
  await t.rejects(boot(t, { connectionString: `${url}?sslmode=verify-full` }), { code: 'FST_PG_SCOPE_UNREACHABLE' })
})
