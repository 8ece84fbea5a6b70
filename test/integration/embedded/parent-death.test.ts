import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { typeScript } from '../../../harness/typescript.ts'

const program = fileURLToPath(new URL('../../../harness/embedded-parent.ts', import.meta.url))

async function startParent (t: { teardown (callback: () => unknown): unknown }, mode?: 'wait') {
  const parent = spawn(process.execPath, [...typeScript, program, ...(mode === undefined ? [] : [mode])], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => parent.kill('SIGKILL'))
  const exit = once(parent, 'exit')
  const [line] = await once(createInterface({ input: parent.stdout }), 'line')
  return { parent, exit, ...JSON.parse(line) as { pid: number, dataFolder: string, child: number } }
}

/** A zombie has ended as well; its parent is whoever adopts processes here. */
async function runs (pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  return !/^State:\s+Z/m.test(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''))
}

async function bothGone (
  { pid, dataFolder }: { pid: number, dataFolder: string }, milliseconds = 15000
): Promise<boolean> {
  for (const deadline = Date.now() + milliseconds; Date.now() < deadline; await sleep(20)) {
    if (!await runs(pid) && !existsSync(dirname(dataFolder))) return true
  }
  return false
}

for (const signal of ['SIGKILL', 'SIGINT', 'SIGTERM'] as const) {
  t.test(`${signal} to the program ends its server and removes the folder`, async t => {
    const { parent, exit, ...server } = await startParent(t, 'wait')
    t.teardown(() => process.kill(server.child))
    t.ok(await runs(server.pid))
    const asked = Date.now()
    parent.kill(signal)
    t.same(await exit, [null, signal], 'the signal means to the program what it meant without a server')
    t.ok(await bothGone(server))
    t.comment(`${Date.now() - asked} ms`)
  })
}

t.test('a running server does not keep its program alive, and ends with it', async t => {
  const { exit, ...server } = await startParent(t)
  t.teardown(() => process.kill(server.child))
  t.same(await exit, [0, null])
  t.ok(await bothGone(server))
})
