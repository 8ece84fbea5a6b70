// The blocks of code that are not TypeScript; readme.test.ts compiles those that are.
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startTestPostgres } from '../../harness/postgres.ts'

const root = join(import.meta.dirname, '../..')
const pages = ['README.md', 'CONTRIBUTING.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]

interface Block { where: string, language: string, code: string }

const blocks: Block[] = pages.flatMap((page) => {
  const text = readFileSync(join(root, page), 'utf8')
  return Array.from(text.matchAll(/^( *)```(\w*)\n([\s\S]*?)^\1```$/gm), (match) => ({
    where: `${page}:${text.slice(0, match.index).split('\n').length + 1}`,
    language: match[2]!,
    code: match[3]!.replaceAll(new RegExp(`^${match[1]}`, 'gm'), '')
  }))
})

const inLanguage = (language: string): Block[] => blocks.filter((block) => block.language === language)

/** Runs a program with a text as its input. */
async function feed (program: string, args: string[], input: string): Promise<{ missing: boolean, errors: string }> {
  return await new Promise((resolve) => {
    const child = execFile(program, args, (error, _out, errors) => {
      resolve({ missing: error?.code === 'ENOENT', errors: error === null ? '' : errors || error.message })
    })
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

t.test('every block names a language that is checked here, compiled by readme.test.ts, or only shown', async (t) => {
  const checked = ['sh', 'sql', 'python', 'ts', 'js']
  // Output; a drawing, which architecture.test.ts compares with the code; a configuration of PgBouncer; a schema, like
  // the one of test/ecosystem.
  const shown = ['', 'console', 'mermaid', 'ini', 'prisma']
  t.same(blocks.filter(({ language }) => ![...checked, ...shown].includes(language)), [])
})

t.test('every command is one that a shell can read', async (t) => {
  t.ok(inLanguage('sh').length > 10)
  for (const { where, code } of inLanguage('sh')) t.equal((await feed('sh', ['-n'], code)).errors, '', where)
})

t.test('every statement is one that PostgreSQL can parse', async (t) => {
  const postgres = await startTestPostgres(t)
  t.ok(inLanguage('sql').length > 0)
  for (const { where, code } of inLanguage('sql')) {
    // Names in it may not exist here; a syntax error is 42601.
    const body = code.replaceAll(/\$\d/g, 'null')
    const error = await postgres.query(`do $check$ begin return; ${body} end $check$`).then(() => null, (error) => error)
    t.not(error?.code, '42601', `${where}: ${error?.message}`)
  }
})

t.test('every block of Python compiles', async (t) => {
  const program = `
import ast, json, sys
for block in json.load(sys.stdin):
    compile(block['code'], block['where'], 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)`
  const { missing, errors } = await feed('python3', ['-c', program], JSON.stringify(inLanguage('python')))
  if (missing && process.env.CI !== 'true') t.comment('not checked: there is no Python here')
  else t.equal(errors, '')
})
