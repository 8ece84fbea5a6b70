import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { temporaryFolder } from '../../../harness/folders.ts'

// As built: `npm test` builds first.
const program = join(import.meta.dirname, '../../../dist/lib/cli/index.js')

interface Ended { code: number | null, out: string, errors: string }

/** Runs the command without a terminal. */
async function cli (cwd: string, ...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const [out, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code, out, errors }
}

/** Runs the command on a terminal, and answers its questions. Null: the input ends. */
async function onTerminal (cwd: string, args: string[], answers: (string | null)[]): Promise<Omit<Ended, 'errors'>> {
  const command = [process.execPath, program, 'init', ...args].map((part) => `'${part}'`).join(' ')
  const child = spawn('script', ['-qec', command, '/dev/null'], { cwd, stdio: ['pipe', 'pipe', 'inherit'] })
  let out = ''
  let asked = 0
  child.stdout.on('data', (chunk) => {
    out += chunk
    const questions = out.match(/\): /g)?.length ?? 0
    // End of input, as Ctrl-D sends it.
    while (asked < questions && asked < answers.length) child.stdin.write(answers[asked++] ?? '\x04')
  })
  const [code] = await once(child, 'close')
  return { code, out: out.replaceAll('\r', '') }
}

t.test('what cannot be meant ends with status 2, says why, and writes nothing', async (t) => {
  const folder = await temporaryFolder(t)
  const cases: [string[], RegExp][] = [
    [[], /A command is missing: init, doctor/],
    [['make'], /There is no command `make`\. Allowed: init, doctor/],
    [['toString'], /There is no command `toString`/],
    [['init'], /not a terminal\. Add `--yes`/],
    [['init', 'my-app'], /not a terminal\. Add `--yes`/],
    [['init', '--yes'], /A folder for the new app is missing: fastify-pg-scope init my-app --yes/],
    [['init', 'my-app', '--yes', '--typescript'], /`init` has no option `--typescript`\. Allowed: --yes, --js/],
    [['init', 'my-app', '-x'], /`init` has no option `-x`/],
    [['init', 'my-app', '--yes', '--js=1'], /`--js` takes no value/],
    [['init', 'my-app', '--yes', '--no-js'], /`init` has no option `--no-js`/],
    [['init', 'my-app', '--yes', '--kysely', '--drizzle'], /`--kysely` and `--drizzle` exclude each other/],
    [['init', 'my-app', '--yes', '--prisma', '--drizzle'], /`--drizzle` and `--prisma` exclude each other/],
    [['init', 'one', 'two', '--yes'], /`init` writes one folder, got 2: one, two/],
    [['init', '', '--yes'], /must not be an empty string/],
    [['init', 'My App', '--yes'], /"My App" cannot be the name of the app: npm allows lowercase .*, for example my-app$/m],
    [['init', '.hidden', '--yes'], /no `\.` or `_` in front\. Choose another folder, for example hidden$/m],
    [['init', 'sub/_app', '--yes'], /"_app" cannot be/],
    [['init', 'node_modules', '--yes'], /npm reserves it/],
    [['init', 'http', '--yes'], /it is a module of Node/],
    [['init', 'kysely', '--yes', '--kysely'], /depends on a package of this name/],
    [['init', 'a'.repeat(215), '--yes'], /it has 215 characters, and npm allows 214/],
    [['init', '@me/App', '--yes'], /"@me\/App" cannot be/],
    [['init', '/', '--yes'], /it is empty/]
  ]
  for (const chunk of [cases.slice(0, 8), cases.slice(8, 16), cases.slice(16)]) {
    await Promise.all(chunk.map(async ([args, message]) => {
      const { code, out, errors } = await cli(folder, ...args)
      t.match({ code, out, errors }, { code: 2, out: '', errors: message }, args.join(' '))
      t.match(errors, /`npx fastify-pg-scope --help` shows what is possible\.\n$/)
      t.notMatch(errors, /\n +at /, 'no stack')
    }))
  }
  t.same(await readdir(folder), [])
})

t.test('help and version are answers, not errors', async (t) => {
  const folder = await temporaryFolder(t)
  t.match(await cli(folder, '--help'), { code: 0, out: /Usage: fastify-pg-scope <command>/, errors: '' })
  t.match(await cli(folder, 'init', '--help'), { code: 0, out: /--yes[^]*--js[^]*--kysely[^]*--drizzle[^]*--prisma[^]*--pgbouncer/, errors: '' })
  t.match(await cli(folder, '--version'), { code: 0, out: /^\d+\.\d+\.\d+\n$/, errors: '' })
})

t.test('a folder that is not empty is refused with what is in it, and stays as it is', async (t) => {
  const folder = await temporaryFolder(t)
  const app = join(folder, 'my-app')
  await mkdir(app)
  await writeFile(join(app, 'package.json'), 'mine')
  await writeFile(join(app, '.env'), 'mine')
  const { code, out, errors } = await cli(folder, 'init', 'my-app', '--yes')
  t.match({ code, out }, { code: 1, out: '' })
  t.match(errors, /my-app is not empty\. It has\n\n {2}\.env\n {2}package\.json\n\nNothing was written/)
  t.same(await readdir(app), ['.env', 'package.json'])
  for (const name of 'abcdefghijkl') await writeFile(join(app, name), '')
  t.match(await cli(folder, 'init', 'my-app', '--yes'), { code: 1, errors: /and 4 more\n/ })
  await writeFile(join(folder, 'file'), '')
  t.match(await cli(folder, 'init', 'file', '--yes'), { code: 1, errors: /file is not a folder\. Choose another name/ })
})

t.test('it lists every file that it wrote, and the two commands that come next', async (t) => {
  const folder = await temporaryFolder(t)
  const { code, out, errors } = await cli(folder, 'init', 'apps/my-app', '--yes')
  t.match({ code, errors }, { code: 0, errors: '' })
  const written = await readdir(join(folder, 'apps/my-app'), { recursive: true, withFileTypes: true })
  const files = written.filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(join(folder, 'apps/my-app/').length))
  t.same(Array.from(out.matchAll(/^ {2}(\S+)$/gm), ([, file]) => file), files.sort((a, b) => a < b ? -1 : 1))
  for (const file of ['.env.example', '.gitignore', '.github/workflows/ci.yml', 'Dockerfile', 'compose.yaml']) {
    t.ok(files.includes(file), file)
  }
  t.match(out, /\nNext:\n\n {2}cd apps\/my-app\n {2}npm install && npm start\n/)
  const { name, dependencies } = JSON.parse(await readFile(join(folder, 'apps/my-app/package.json'), 'utf8'))
  t.equal(name, 'my-app')
  t.match(dependencies['fastify-pg-scope'], /^\^\d+\.\d+\.\d+$/)
  t.match(await readFile(join(folder, 'apps/my-app/README.md'), 'utf8'), /^# my-app\n/)
})

t.test('the current folder can be the app, also when Git has been there', async (t) => {
  const folder = join(await temporaryFolder(t), 'my-app')
  await mkdir(join(folder, '.git'), { recursive: true })
  const { code, out } = await cli(folder, 'init', '.', '--yes', '--js')
  t.equal(code, 0)
  t.match(out, /^Wrote my-app:/)
  t.match(out, /\nNext:\n\n {2}npm install && npm start\n/)
  t.notMatch((await readdir(folder, { recursive: true })).join('\n'), /\.ts$/m)
})

t.test('on a terminal it asks for what is missing, and asks again after an answer that it cannot use', async (t) => {
  const folder = await temporaryFolder(t)
  const answers = ['My App\n', 'bank\n', 'coffee\n', 'js\n', 'prisma\n', 'y\n']
  const { code, out } = await onTerminal(folder, [], answers)
  t.equal(code, 0, out)
  t.match(out, /"My App" cannot be the name/)
  t.match(out, /Answer with one of ts, js/)
  const { name, dependencies } = JSON.parse(await readFile(join(folder, 'bank/package.json'), 'utf8'))
  t.equal(name, 'bank')
  t.ok(dependencies['@prisma/client'])
  t.same((await readdir(join(folder, 'bank/pgbouncer'))).sort(), ['pgbouncer.ini', 'userlist.txt'])
  t.ok((await readdir(join(folder, 'bank/src'))).includes('server.js'))
})

t.test('on a terminal Enter takes the defaults, and what the command line says is not asked', async (t) => {
  const folder = await temporaryFolder(t)
  const { code, out } = await onTerminal(folder, ['--kysely'], ['\n', '\n', '\n'])
  t.equal(code, 0, out)
  t.notMatch(out, 'query builder?')
  const { dependencies } = JSON.parse(await readFile(join(folder, 'my-app/package.json'), 'utf8'))
  t.ok(dependencies.kysely)
  t.notOk((await readdir(join(folder, 'my-app'))).includes('pgbouncer'))
})

t.test('when the input ends, nothing is written', async (t) => {
  const folder = await temporaryFolder(t)
  const { code, out } = await onTerminal(folder, [], ['my-app\n', null])
  t.equal(code, 1)
  t.match(out, /Stopped\. Nothing was written/)
  t.same(await readdir(folder), [])
})
