import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawnOptions } from '../../lib/embedded/program.ts'
import type { Account } from '../../lib/embedded/account.ts'

/** Milliseconds until it must listen. It takes 10 on an idle machine. */
const startTimeout = 30_000
/** Logged when it has bound its port. */
const bound = 'process up:'

export interface PgBouncerFiles {
  program: string
  configuration: string
  log: string
  account: Account | undefined
}

export interface PgBouncerProcess {
  readonly pid: number
  readonly state: 'starting' | 'running' | 'ending' | 'ended'
  /** Resolves when it listens; rejects with its log when it ends before that, or takes too long. */
  readonly ready: Promise<void>
  /** Sends the signal, and waits for the end. A harder one may follow while an earlier call still waits. */
  end (signal: NodeJS.Signals): Promise<void>
}

/**
 * Starts PgBouncer. Its log goes to a file, not through a pipe, on which a busy test would make it wait. When it ends
 * without having been told to, the end of the log is shown.
 *
 * @param watch told of the process as soon as there is one
 */
export function startProcess (files: PgBouncerFiles, watch: (pid: number | undefined) => void): PgBouncerProcess {
  const log = openSync(files.log, 'a')
  const before = readFileSync(files.log, 'utf8').length
  const child = spawn(files.program, [files.configuration], { ...spawnOptions(files.account), stdio: ['ignore', log, log] })
  closeSync(log)
  let state: PgBouncerProcess['state'] = 'starting'
  const said = () => readFileSync(files.log, 'utf8').slice(before)
  const ended = once(child, 'exit').then(([code, signal]) => String(signal ?? `exit code ${code}`), String).then(ending => {
    const unasked = state === 'running'
    state = 'ended'
    // Its number may soon be another process's.
    watch(undefined)
    if (unasked) console.error(`PgBouncer ended by itself (${ending}). It said last:\n${said().split('\n').slice(-20).join('\n')}`)
    return ending
  })
  watch(child.pid)
  const listening = async () => {
    for (const deadline = Date.now() + startTimeout; state === 'starting' && Date.now() < deadline; await sleep(5)) {
      if (!said().includes(bound)) continue
      state = 'running'
      child.unref()
      return
    }
    child.kill('SIGKILL')
    throw new Error(`PgBouncer did not start (${await ended}). It said:\n${said()}`)
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
      await ended
    }
  }
}
