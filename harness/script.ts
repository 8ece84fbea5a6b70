import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { typeScript } from './typescript.ts'

export interface ScriptResult {
  out: string
  errors: string
  code: number | null
  signal: NodeJS.Signals | null
}

/**
 * Runs a module in a process of its own, which knows `url` as TEST_URL, until it ends by itself.
 *
 * @param limit milliseconds until it is ended
 */
export async function runScript (
  source: string, { url, flags = [], limit }: { url: string, flags?: readonly string[], limit: number }
): Promise<ScriptResult> {
  const child = spawn(process.execPath, [...flags, ...typeScript, '--input-type=module', '-e', source], { env: { ...process.env, TEST_URL: url }, stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), limit)
  const [out, errors, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  clearTimeout(timer)
  return { out, errors, code, signal }
}
