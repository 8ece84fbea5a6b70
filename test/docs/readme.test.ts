import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import type { FastifyInstance } from 'fastify'
import { startTestPostgres } from '../../harness/postgres.ts'
import { compile, ofEcosystem, root, samplesOf } from './samples.ts'

const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]

t.test('every sample of the README and of the docs compiles as a user would compile it', async (t) => {
  const samples = pages.filter((page) => !ofEcosystem.includes(page)).flatMap(samplesOf)
  t.same(compile(samples, 'test/docs'), [])
  t.ok(samples.length > 20, 'samples were found')
})

t.test('the quick start of the README works as it is written, with the output that it shows', async (t) => {
  const postgres = await startTestPostgres(t)
  const { code } = samplesOf('README.md')[0]!
  const folder = t.testdir({
    'server.ts': `${code
      .replace('\'fastify-pg-scope\'', JSON.stringify(pathToFileURL(join(root, 'lib/index.ts')).href))
      .replace('logger: true', 'logger: false')
      .replace('port: 3000', 'port: 0')}\nexport { app }\n`
  })
  process.env.DATABASE_URL = postgres.connectionString
  t.teardown(() => { delete process.env.DATABASE_URL })

  const { app } = await import(pathToFileURL(join(folder, 'server.ts')).href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const commands = Array.from(readme.matchAll(/^\$ curl http:\/\/127\.0\.0\.1:3000(\S+)(?: -H '([\w-]+): (\S+)' -d '(.*)')?\n(.*)$/gm))
  t.equal(commands.length, 3)
  for (const [command, url, name, value, payload, output] of commands) {
    const response = await app.inject(payload === undefined
      ? { url: url! }
      : { url: url!, method: 'POST', headers: { [name!]: value! }, payload })
    t.equal(response.body, output!, command!)
  }
})

t.test('the README is short, and its links lead to files of the package, so that they work where it is installed', async (t) => {
  const text = readFileSync(join(root, 'README.md'), 'utf8')
  t.ok(text.split('\n').length < 251, `${text.split('\n').length} lines`)
  const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] }
  t.ok(files.includes('docs/*.{md,svg,ini}'))
  const links = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#]*)/g), ([, path]) => path!)
  t.ok(links.length > 10)
  t.same(links.filter((path) => !/^docs\/[\w-]+\.(?:md|svg|ini)$/.test(path)), [])
})

t.test('every error has a section, and every link between the pages leads somewhere', async (t) => {
  const anchors = new Map(pages.map((page) => [page, new Set(Array.from(readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm), (match) => match[1]!.toLowerCase().replaceAll(/[^\w\s-]/g, '').replaceAll(' ', '-')))]))
  const errors = readFileSync(join(root, 'lib/errors.ts'), 'utf8').match(/^ {2}FST_PG_SCOPE_\w+(?=: \d)/gm)!.map((code) => code.trim().toLowerCase())
  t.same(errors.filter((code) => !anchors.get('docs/errors.md')!.has(code)), [])

  const broken = pages.flatMap((page) => Array.from(readFileSync(join(root, page), 'utf8').matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g), ([link, path, anchor]) => {
    const target = path === '' ? page : join(page, '..', path!)
    if (!anchors.has(target)) return existsSync(join(root, target)) ? '' : `${page}: ${link}`
    return anchor !== undefined && !anchors.get(target)!.has(anchor) ? `${page}: ${link}` : ''
  })).filter((link) => link !== '')
  t.same(broken, [])
})

t.test('every test that a page names is there under that name', async (t) => {
  const named = pages.flatMap((page) => Array.from(readFileSync(join(root, page), 'utf8').matchAll(/`([\w/-]+)(?:\.test)?(?:\.ts)?`: ("[^"]+"(?:,? (?:and )?"[^"]+")*)/g), ([, file, names]) =>
    Array.from(names!.matchAll(/"([^"]+)"/g), ([, name]) => ({ page, file: file!, name: name! }))).flat())
  const missing = named.filter(({ file, name }) => {
    const path = [`test/integration/${file}.test.ts`, `test/integration/${file}.ts`, `${file}.test.ts`].map((path) => join(root, path)).find(existsSync)
    // What differs from case to case stands as … on the page, and in the source as a template's placeholder.
    const parts = name.split('…').map((part) => part.trim())
    return path === undefined || !readFileSync(path, 'utf8').replaceAll("\\'", "'").split('\n').some((line) => parts.every((part) => line.includes(part)))
  })
  t.same(missing, [])
  t.ok(named.length > 20, 'names were found')
})
