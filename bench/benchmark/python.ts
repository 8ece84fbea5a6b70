import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { RunningApp } from './running-app.ts'
import { accounts, tenant, timeout } from '../../harness/workload-statements.ts'
import type { Setup } from './subject.ts'

const run = promisify(execFile)

export interface Python {
  program: string
  /** As in 'FastAPI 0.92.0, SQLAlchemy 1.4.46'. */
  versions: string
}

const versions = `
import platform, fastapi, sqlalchemy, asyncpg, uvicorn
print(f"FastAPI {fastapi.__version__}, SQLAlchemy {sqlalchemy.__version__}, asyncpg {asyncpg.__version__}, uvicorn {uvicorn.__version__}, Python {platform.python_version()}", end="")`

let found: Promise<Python | null> | undefined

/**
 * Debian's Python comes first: its packages are where they can be had without more ado. Null where none has them all.
 */
export async function findPython (): Promise<Python | null> {
  return await (found ??= find())
}

async function find (): Promise<Python | null> {
  for (const program of ['/usr/bin/python3', 'python3']) {
    const versionsOf = await run(program, ['-c', versions]).then(({ stdout }) => stdout, () => null)
    if (versionsOf !== null) return { program, versions: versionsOf }
  }
  return null
}

/** Milliseconds until it must answer. */
const startTimeout = 20_000

export async function startFastApi ({ connectionString, max }: Setup): Promise<RunningApp> {
  const python = await findPython()
  if (python === null) throw new Error('FastAPI is not installed: apt-get install python3-fastapi python3-sqlalchemy python3-asyncpg uvicorn')
  const setup = { url: connectionString.replace(/^postgres(?:ql)?:/, 'postgresql+asyncpg:'), max, accounts, tenant, timeout }
  const child = spawn(python.program, ['-B', 'bench/benchmark/subjects/fastapi_app.py', JSON.stringify(setup)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const [port] = await Promise.race([once(createInterface(child.stdout), 'line'), ended.then(() => { throw new Error('fastapi_app.py ended by itself') })])
  const url = `http://127.0.0.1:${port}`
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  // The port is taken before the server listens on it.
  for (const deadline = Date.now() + startTimeout; ; await sleep(20)) {
    if (await fetch(`${url}/plain`).then(({ ok }) => ok, () => false)) break
    if (Date.now() > deadline || child.exitCode !== null) {
      await stop()
      throw new Error('fastapi_app.py does not answer')
    }
  }
  return { url, cpu: () => cpuTime(child.pid!), stop }
}

/** Clock ticks are 10 ms on every Linux that Node runs on; elsewhere there is no /proc. */
async function cpuTime (pid: number): Promise<{ used: number, at: number }> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // Behind the name, which may hold anything: utime and stime are the fields 14 and 15.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { used: (Number(fields[11]) + Number(fields[12])) * 10_000, at: performance.now() * 1000 }
}
