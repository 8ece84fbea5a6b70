import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawnOptions } from '../../lib/embedded/program.ts'
import type { Account } from '../../lib/embedded/account.ts'

/** Milliseconds until it must listen. It takes 10 on an idle machine. */
const startTimeout = 30_000
/** Milliseconds that it may take to end before SIGKILL. */
const endTimeout = 10_000

export interface PoolerCommand {
  /** For messages: 'PgBouncer'. */
  title: string
  program: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  log: string
  /** Logged when it accepts connections. */
  listening: string
  account: Account | undefined
}

export interface PoolerProcess {
  readonly pid: number
  readonly state: 'starting' | 'running' | 'ending' | 'ended'
  /** Resolves when it listens; rejects with its log when it ends before that, or takes too long. */
  readonly ready: Promise<void>
  /**
   * Sends the signal, and waits for the end of the process and its children. A harder one may follow while an earlier
   * call still waits.
   */
  end (signal: NodeJS.Signals): Promise<void>
}

/**
 * Starts a pooler. Its log goes to a file, not through a pipe, on which a busy test would make it wait. When it ends
 * without having been told to, the end of the log is shown.
 *
 * @param watch told of the process as soon as there is one
 */
export function startProcess (command: PoolerCommand, watch: (pid: number | undefined) => void): PoolerProcess {
  const { title } = command
  const log = openSync(command.log, 'a')
  const before = readFileSync(command.log, 'utf8').length
  const options = spawnOptions(command.account)
  const child = spawn(command.program, command.args, {
    ...options, env: { ...options.env, ...command.env }, stdio: ['ignore', log, log]
  })
  closeSync(log)
  let state: PoolerProcess['state'] = 'starting'
  const said = () => readFileSync(command.log, 'utf8').slice(before)
  /** Its children are in its process group. */
  const killGroup = () => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {} // all have ended
  }
  const ended = once(child, 'exit').then(([code, signal]) => String(signal ?? `exit code ${code}`), String).then(ending => {
    const unasked = state === 'running'
    state = 'ended'
    if (child.pid !== undefined) killGroup()
    // Its number may soon be another process's.
    watch(undefined)
    if (unasked) console.error(`${title} ended by itself (${ending}). It said last:\n${said().split('\n').slice(-20).join('\n')}`)
    return ending
  })
  watch(child.pid)
  const listening = async () => {
    for (const deadline = Date.now() + startTimeout; state === 'starting' && Date.now() < deadline; await sleep(5)) {
      if (!said().includes(command.listening)) continue
      state = 'running'
      child.unref()
      return
    }
    child.kill('SIGKILL')
    throw new Error(`${title} did not start (${await ended}). It said:\n${said()}`)
  }
  return {
    pid: child.pid as number,
    get state () { return state },
    ready: listening(),
    end: async signal => {
      if (state === 'ended') return
      state = 'ending'
      child.ref()
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), endTimeout)
      await ended
      clearTimeout(timer)
    }
  }
}
