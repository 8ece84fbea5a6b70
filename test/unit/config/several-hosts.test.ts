import t from 'tap'
import { resolveOptions } from '../../../lib/config/options.ts'
import { hostsOf } from '../../../lib/postgres/hosts.ts'
import { targetOf } from '../../../lib/postgres/target.ts'
import type { PgScopeOptions } from '../../../types/options.ts'
import type { Test } from 'tap'

/** The hosts that connections are opened to, and the kind that is asked for; null: one that may be anything. */
function hosts (options: PgScopeOptions): { names: string, wants: string } | null {
  const several = hostsOf(resolveOptions(options).client)
  return several === null ? null : { names: several.names, wants: several.wants }
}

const fromUrl = (connectionString: string) => hosts({ connectionString })

function setEnvironment (t: Test, variables: Record<string, string>): void {
  const before = { ...process.env }
  t.teardown(() => { process.env = before })
  for (const name of Object.keys(process.env)) if (name.startsWith('PG')) delete process.env[name]
  Object.assign(process.env, variables)
}

setEnvironment(t as unknown as Test, {})

t.test('several hosts in a URL, with the ports that libpq would use', async (t) => {
  for (const [url, names] of [
    ['postgres://app:s3cret@one:5432,two:5433/shop', 'one:5432, two:5433'],
    ['postgresql://app@one,two:5433,three/shop', 'one:5432, two:5433, three:5432'],
    ['postgres://one,two', 'one:5432, two:5432'],
    ['postgres://one,two/shop?port=6000', 'one:6000, two:6000'],
    ['postgres://app@one,two?sslmode=disable', 'one:5432, two:5432'],
    ['postgres://app:a,b@[::1]:5432,[fe80::2]/shop', '[::1]:5432, [fe80::2]:5432'],
    ['postgres://%2Frun%2Fone,two/shop', '/run/one:5432, two:5432'],
    ['postgres://app@:5433,two/shop', 'localhost:5433, two:5432'],
    ['postgres:///shop?host=one,two&port=5432,5433', 'one:5432, two:5433'],
    ['postgres://app@ignored/shop?host=one,two&port=,5433', 'one:5432, two:5433'],
    ['postgres://app@one,two/shop?host=three,four', 'three:5432, four:5432'],
    ['postgres://app@one:1,two:2/shop?host=three,four', 'three:1, four:2'],
    ['postgres://app@one:1/shop?host=three,four', 'three:1, four:1']
  ] as const) t.same(fromUrl(url), { names, wants: 'any' }, url)
})

t.test('user, password, database and parameters of such a URL are read as usual', async (t) => {
  const url = 'postgres://app:s%40c,ret@one:5432,two:5433/shop?application_name=till&target_session_attrs=primary'
  const { client } = resolveOptions({ connectionString: url })
  t.match(client, { user: 'app', password: 's@c,ret', database: 'shop', application_name: 'till', host: 'one', port: 5432 })
  t.equal(hostsOf(client)?.wants, 'primary')
})

t.test('one host that may be anything is no list', async (t) => {
  for (const url of ['postgres://app@one:5433/shop', 'postgres:///shop', 'postgres://app:a,b@one/shop', '/run/postgresql shop', 'postgres://one/?target_session_attrs=any', 'postgres://one/?load_balance_hosts=random']) t.equal(fromUrl(url), null, url)
  t.same(fromUrl('postgres://one/?target_session_attrs=read-write'), { names: 'one:5432', wants: 'read-write' })
})

t.test('options take precedence over the URL, and the URL over the environment', async (t) => {
  const url = 'postgres://one,two/shop?target_session_attrs=standby'
  t.same(hosts({ connectionString: url, targetSessionAttrs: 'prefer-standby' }), { names: 'one:5432, two:5432', wants: 'prefer-standby' })
  t.same(hosts({ connectionString: url, host: 'a,b', port: '1,2' }), { names: 'a:1, b:2', wants: 'standby' })
  t.same(hosts({ host: 'a,b', port: 6000 }), { names: 'a:6000, b:6000', wants: 'any' })
  setEnvironment(t, { PGHOST: 'one,two', PGPORT: '5432,5433', PGTARGETSESSIONATTRS: 'primary', PGLOADBALANCEHOSTS: 'random' })
  t.same(fromUrl('postgres:///shop'), { names: 'one:5432, two:5433', wants: 'primary' })
  t.same(fromUrl(url), { names: 'one:5432, two:5433', wants: 'standby' })
  t.same(fromUrl('postgres://one:1,two:2/shop?target_session_attrs=any'), { names: 'one:1, two:2', wants: 'any' })
})

t.test('lists that do not fit each other, and values that mean nothing, stop the boot', async (t) => {
  const fails = (options: PgScopeOptions, details: RegExp): void => {
    t.throws(() => resolveOptions(options), { code: 'FST_PG_SCOPE_OPTIONS', details }, String(details))
  }
  fails({ host: 'a,b', port: '1,2,3' }, /`port` must be one port, or as many as there are hosts: got 3 ports for 2 hosts\./)
  fails({ connectionString: 'postgres://a:1,b:2/', host: 'c' }, /got 2 ports for 1 host\./)
  fails({ connectionString: 'postgres://a:1,b:2/?host=c' }, /got 2 ports for 1 host\./)
  for (const host of ['a, b', 'a,b ', 'a:1,b:2', 'a,[::1]']) fails({ host }, /^`host` must be a host, or several with commas alone between them/)
  t.same(hosts({ host: 'a,/run/post gres,::1,fe80::1%eth0,@abstract' })?.names, 'a:5432, /run/post gres:5432, [::1]:5432, [fe80::1%eth0]:5432, @abstract:5432')
  fails({ connectionString: 'postgres:///?host=a,b&port=1,2,3' }, /got 3 ports for 2 hosts/)
  for (const url of ['postgres://app:s3cret@a:1,b:70000/', 'postgres://app:s3cret@a,b:x/', 'postgres://app:s3cret@a,b%ff/', 'postgres://app:s3c,ret']) {
    fails({ connectionString: url }, /^`connectionString` must be a URL such as (?!.*s3c)/)
  }
  setEnvironment(t, { PGTARGETSESSIONATTRS: 'master' })
  fails({ host: 'a' }, /`PGTARGETSESSIONATTRS` must be 'any', /)
  setEnvironment(t, { PGHOST: 'a,b', PGPORT: '1,x' })
  fails({ user: 'app' }, /`port` must be an integer from 1 to 65535/)
})

t.test('directUrl may have several hosts, and takes targetSessionAttrs from the options', async (t) => {
  const options = { connectionString: 'postgres://pooler/shop', directUrl: 'postgres://one,two/shop' }
  t.equal(hostsOf(resolveOptions(options).direct!)?.wants, 'any')
  t.equal(hostsOf(resolveOptions({ ...options, targetSessionAttrs: 'primary' }).direct!)?.wants, 'primary')
})

t.test('an error names every host', async (t) => {
  const { client } = resolveOptions({ connectionString: 'postgres://app@one,two:5433/shop' })
  t.match(targetOf(client), { host: 'one', port: 5432, hosts: { names: 'one:5432, two:5433' } })
})
