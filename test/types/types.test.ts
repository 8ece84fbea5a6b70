import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import t from 'tap'

const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')

t.test('the public types accept what a user may write, and refuse what would fail at run time', t => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', import.meta.dirname], { encoding: 'utf8' })
  t.equal(stdout + stderr, '')
  t.equal(status, 0)
  t.end()
})
