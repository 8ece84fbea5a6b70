// Whose server a connection leads to: verify-full with a CA of one's own.
import { readFile } from 'node:fs/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { certificate, privateCa, switchTlsOn, type ServerCertificate } from '../../../harness/server-tls.ts'

const ca = await readFile(privateCa, 'utf8')
const password = 'pass-w0rd-of-tls'

async function serve (name: ServerCertificate | null): Promise<string> {
  const postgres = await startTestPostgres(t, { password })
  if (name !== null) await switchTlsOn(postgres, name)
  return `postgres://${postgres.user}:${password}@127.0.0.1:${postgres.port}/${postgres.database}`
}

const [signed, otherName, plain] = await Promise.all([serve('signed'), serve('other-name'), serve(null)])

/** @returns whether the connection is encrypted */
async function boot (t: Test, options: PgScopeOptions): Promise<boolean> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(pgScope, { pooler: 'none', ...options })
  await app.ready()
  return (await app.db.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')).rows[0].ssl
}

async function isRefused (t: Test, options: PgScopeOptions, words: RegExp): Promise<void> {
  const error = await boot(t, options).then(() => null, (error) => error)
  t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE' }, String(options.connectionString).replace(password, '…'))
  t.match(`${error?.details} ${error?.cause?.message}`, words)
  t.notMatch(`${error?.stack} ${JSON.stringify(error)}`, password)
}

t.test('a certificate of a private CA is accepted with that CA, by the option and by the URL', async (t) => {
  t.equal(await boot(t, { connectionString: signed, ssl: { ca } }), true)
  for (const mode of ['verify-full', 'verify-ca', 'require', 'prefer']) {
    t.equal(await boot(t, { connectionString: `${signed}?sslmode=${mode}&sslrootcert=${privateCa}` }), true, mode)
  }
})

t.test('it is refused with another CA, and with the public ones', async (t) => {
  const other = await readFile(certificate, 'utf8')
  await isRefused(t, { connectionString: signed, ssl: { ca: other } }, /certificate/)
  await isRefused(t, { connectionString: signed, ssl: true }, /certificate/)
  await isRefused(t, { connectionString: `${signed}?sslmode=verify-full` }, /certificate/)
  await isRefused(t, { connectionString: `${signed}?sslmode=verify-full&sslrootcert=${certificate}` }, /certificate/)
})

t.test('a certificate for another host is refused, although its CA is known', async (t) => {
  await isRefused(t, { connectionString: otherName, ssl: { ca } }, /altnames|does not match/)
  for (const mode of ['verify-full', 'require']) {
    await isRefused(t, { connectionString: `${otherName}?sslmode=${mode}&sslrootcert=${privateCa}` }, /altnames|does not match/)
  }
  t.equal(await boot(t, { connectionString: otherName, ssl: { ca, servername: 'db.example' } }), true, 'for the name that it has it is accepted')
})

t.test('a server without TLS is refused: no connection falls back to plain text', async (t) => {
  await isRefused(t, { connectionString: plain, ssl: { ca } }, /SSL/)
  await isRefused(t, { connectionString: plain, ssl: true }, /SSL/)
  for (const mode of ['verify-full', 'require', 'prefer', 'no-verify']) await isRefused(t, { connectionString: `${plain}?sslmode=${mode}` }, /SSL/)
  t.equal(await boot(t, { connectionString: plain }), false)
})
