import Fastify from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { withEnvironment } from '../../../lib/config/environment.ts'
import { resolveOptions } from '../../../lib/config/options.ts'
import type { PgScopeOptions } from '../../../types/options.ts'

type Fields = Record<'host' | 'port' | 'user' | 'password' | 'database' | 'application_name' | 'ssl', unknown>

/** What a connection would be opened with. */
async function opened (t: Test, given: PgScopeOptions, variables: Record<string, string>): Promise<Fields> {
  const before = process.env
  process.env = { ...variables }
  const app = Fastify()
  try {
    let options: PgScopeOptions = given
    app.register(async (instance) => { options = await withEnvironment(instance, given) })
    await app.ready()
    const client = new pg.Client(resolveOptions(options).client) as unknown as { connectionParameters: Fields }
    const { host, port, user, password, database, application_name: name, ssl } = client.connectionParameters
    return { host, port, user, password, database, application_name: name, ssl }
  } finally {
    process.env = before
    await app.close()
  }
}

const environment = {
  PGHOST: 'env-host',
  PGPORT: '1111',
  PGUSER: 'env-user',
  PGPASSWORD: 'env-password',
  PGDATABASE: 'env-database',
  PGAPPNAME: 'env-name',
  PGSSLMODE: 'no-verify'
}
const fromEnvironment: Fields = {
  host: 'env-host',
  port: 1111,
  user: 'env-user',
  password: 'env-password',
  database: 'env-database',
  application_name: 'env-name',
  ssl: { rejectUnauthorized: false }
}
const whole = 'postgres://url-user:url-password@url-host:2222/url-database?application_name=url-name&sslmode=verify-full'
const fromUrl: Fields = {
  host: 'url-host',
  port: 2222,
  user: 'url-user',
  password: 'url-password',
  database: 'url-database',
  application_name: 'url-name',
  ssl: {}
}

/** Each field: the option, a URL that gives this one alone, and what the option leads to. */
const fields: [keyof Fields, PgScopeOptions, string, unknown][] = [
  ['host', { host: 'own' }, 'postgres://url-host', 'own'],
  ['port', { port: 3333 }, 'postgres:///?port=2222', 3333],
  ['user', { user: 'own' }, 'postgres:///?user=url-user', 'own'],
  ['password', { password: 'own' }, 'postgres:///?password=url-password', 'own'],
  ['database', { database: 'own' }, 'postgres:///url-database', 'own'],
  ['application_name', { applicationName: 'own' }, 'postgres:///?application_name=url-name', 'own'],
  ['ssl', { ssl: { ca: 'own' } }, 'postgres:///?sslmode=verify-full', { ca: 'own' }]
]

for (const [name, option, url, own] of fields) {
  t.test(`${name}: the option wins over the URL, and the URL over the environment`, async (t) => {
    t.same(await opened(t, { ...option, connectionString: whole }, environment), { ...fromUrl, [name]: own }, 'option over URL')
    const alone = await opened(t, { connectionString: url }, environment)
    t.same(alone, { ...fromEnvironment, [name]: fromUrl[name] }, 'the URL, and the environment for what it leaves open')
    t.same(await opened(t, {}, { ...environment, DATABASE_URL: url }), alone, 'and the same for DATABASE_URL')
  })
}

t.test('an option beside DATABASE_URL wins over it', async (t) => {
  const url = { ...environment, DATABASE_URL: whole }
  t.same(await opened(t, { password: 'own' }, url), { ...fromUrl, password: 'own' })
  t.same(await opened(t, { ssl: { ca: 'own' } }, url), { ...fromUrl, ssl: { ca: 'own' } })
  t.same(await opened(t, { applicationName: 'own' }, url), { ...fromUrl, application_name: 'own' })
})

t.test('PG_SCOPE_APPLICATION_NAME yields to the URL, and wins over PGAPPNAME', async (t) => {
  const variables = { ...environment, PG_SCOPE_APPLICATION_NAME: 'scope-name' }
  t.equal((await opened(t, {}, { ...variables, DATABASE_URL: whole })).application_name, 'url-name')
  t.equal((await opened(t, {}, { ...variables, DATABASE_URL: 'postgres:///' })).application_name, 'scope-name')
  t.equal((await opened(t, {}, variables)).application_name, 'scope-name')
})

t.test('a URL without a password leaves the one of the options in place', async (t) => {
  for (const url of ['postgres://url-user@url-host/shop', 'postgres://url-user:@url-host/shop']) {
    t.equal((await opened(t, { connectionString: url, password: 'own' }, environment)).password, 'own')
  }
})

for (const mode of ['disable', 'no-verify', 'require', 'verify-full']) {
  t.test(`the option ssl takes the place of all that sslmode=${mode} says`, async (t) => {
    const connectionString = `postgres://app@db/shop?sslmode=${mode}`
    for (const ssl of [true, false, { ca: 'own' }, { rejectUnauthorized: true }]) {
      t.same((await opened(t, { connectionString, ssl }, { PGSSLMODE: 'disable' })).ssl, ssl)
    }
  })
}

t.test('ssl=false and ssl=0 in a URL switch TLS off', async (t) => {
  for (const value of ['false', '0']) t.equal((await opened(t, { connectionString: `postgres://db/shop?ssl=${value}` }, { PGSSLMODE: 'require' })).ssl, false)
  for (const value of ['true', '1']) t.equal((await opened(t, { connectionString: `postgres://db/shop?ssl=${value}` }, {})).ssl, true)
})

t.test('ssl: false wins over sslnegotiation=direct, and a contradiction of the environment stops the boot', async (t) => {
  t.equal((await opened(t, { connectionString: 'postgres://db/shop?sslnegotiation=direct', ssl: false }, {})).ssl, false)
  await t.rejects(opened(t, { connectionString: 'postgres://db/shop' }, { PGSSLNEGOTIATION: 'direct' }), { code: 'FST_PG_SCOPE_OPTIONS' })
})
