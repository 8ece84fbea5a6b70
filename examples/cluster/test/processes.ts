import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { startExample } from '../../../harness/example-process.ts'

const folder = fileURLToPath(new URL('..', import.meta.url))

export function buildCluster (): void {
  execFileSync('npm', ['run', 'build', '--silent'], { cwd: folder })
}

/** Starts the cluster as a user does. */
export function startProcesses (t: Test, env: Record<string, string>) {
  const { child, ended, output, until: holds } = startExample(t, folder, env, 120_000)
  const until = async (wanted: RegExp): Promise<RegExpExecArray> => {
    await holds(() => wanted.test(output()))
    return wanted.exec(output())!
  }
  const port = async (): Promise<number> => Number((await until(/serve http:\/\/127\.0\.0\.1:(\d+)\./))[1])
  return { child, ended, output, until, port }
}
