import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')

t.test('docs/options.md has every option and every environment variable', async (t) => {
  const options = readFileSync(join(root, 'docs/options.md'), 'utf8')
  const types = readFileSync(join(root, 'types/options.ts'), 'utf8')
  const pool = new Set(/interface PoolOptions \{([\s\S]*?)^\}/m.exec(types)![1]!.match(/^ {2}\w+(?=\?)/gm)!.map((name) => name.trim()))
  const names = ['TransactionOptions', 'ScopeOptions', 'RouteOptions', 'ConnectionFields', 'PgScopeOptions'].flatMap((name) =>
    new RegExp(`interface ${name}\\b[^{]*\\{([\\s\\S]*?)^\\}`, 'm').exec(types)![1]!.match(/^ {2}\w+(?=\?)/gm)!.map((name) => name.trim()))
  const missing = [...names.filter((name) => name !== 'pool'), ...Array.from(pool, (name) => `pool.${name}`)]
    .filter((name) => !options.includes(`\`${name}\``))
  t.same(missing, [])
  const environment = readFileSync(join(root, 'lib/config/environment.ts'), 'utf8')
  const variables = environment.match(/^ {2}(?:DATABASE_URL|PG\w+)(?=: \{)/gm)!.map((name) => name.trim())
  t.ok(variables.length > 15)
  t.same(variables.filter((name) => !options.includes(`\`${name}\``)), [])
})
