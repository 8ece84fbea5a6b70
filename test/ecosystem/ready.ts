// The packages of this folder are large, and installed by `npm run ecosystem` alone, which also writes Prisma's client.
// `prisma generate` downloads the engine of `prisma migrate` and `prisma db` and does not use it: any file may be in
// its place.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const folder = import.meta.dirname

/** Whether the packages are installed. In CI they must be. */
export function areInstalled (t: Test): boolean {
  if (existsSync(join(folder, 'generated'))) return true
  const message = 'not run: its packages are not installed (npm run ecosystem)'
  if (process.env.CI === 'true') t.fail(message)
  else t.pass(message)
  return false
}

/** Runs a program of a package of this folder. */
export async function runProgram (file: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  // Options of this process are not for others.
  const { NODE_OPTIONS: _options, ...own } = process.env
  const program = join(folder, 'node_modules', file)
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [program, ...args], {
    cwd: folder,
    env: { ...own, ...env }
  })
  return stdout + stderr
}
