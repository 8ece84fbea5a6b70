import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { waitFor } from '../../harness/wait-for.ts'
import { run } from './tarball.ts'

/** Writes a new app into a folder of this name beside node_modules, where the package is installed. */
export async function init (installed: string, folder: string, name: string, ...flags: string[]): Promise<string> {
  const { bin } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
  await run(process.execPath, [join(installed, bin['fastify-pg-scope']), 'init', name, '--yes', ...flags], folder)
  return join(folder, name)
}

/** Runs the app's own tests by its own script; the names of files limit them to some. */
export async function testApp (app: string, ...files: string[]): Promise<string> {
  const { scripts } = JSON.parse(await readFile(join(app, 'package.json'), 'utf8'))
  const all = /test\/\*\.test\.[jt]s$/.exec(scripts.test)![0]
  const chosen = files.length === 0 ? all : files.map((file) => all.replace('*', file)).join(' ')
  return await run('sh', ['-c', scripts.test.replace(all, chosen).replace('node ', `"${process.execPath}" `)], app)
}

/** Starts the app by arguments of Node. The variables replace a DATABASE_URL of the environment. */
export async function startApp (t: Test, app: string, args: string[], variables: Record<string, string> = {}) {
  const { NODE_OPTIONS: _hooks, DATABASE_URL: _url, ...env } = process.env
  const server = spawn(process.execPath, args, {
    cwd: app, env: { ...env, ...variables }
  })
  t.teardown(() => server.kill('SIGKILL'))
  let output = ''
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (chunk) => { output += chunk })
  const url = await waitFor(() => {
    const found = /The bank is open at (\S+)\. /.exec(output)
    if (found === null) throw new Error(output)
    return found[1]
  }, { timeout: 60_000 })
  return {
    url,
    /** Sends SIGTERM. */
    stop: async (): Promise<{ ended: unknown[], output: string }> => {
      server.kill('SIGTERM')
      return { ended: await once(server, 'close'), output }
    }
  }
}
