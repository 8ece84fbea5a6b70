import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { keepFromExit, letExit } from '../process-exit.ts'
import type { Account } from './account.ts'

/** Milliseconds that a shutdown may take before a harder one follows. */
const patience = 5000
/** Enough to see why a start failed, little enough to read in an error. */
const keptLines = 30

/** A program of PostgreSQL that was started. */
export interface Program {
  readonly pid: number | undefined
  readonly running: boolean
  /** Resolves when it has ended and its output is read; `error` if it never started. */
  readonly ended: Promise<Ending>
  /** What it said last. */
  tail (): string
  kill (signal: NodeJS.Signals): void
  /** Whether it keeps this process alive. It does, until told otherwise. */
  hold (holds: boolean): void
}

export interface Ending {
  code: number | null
  signal: NodeJS.Signals | null
  error?: NodeJS.ErrnoException
}

/**
 * How children are started: in a session of their own, so that a Ctrl-C in the terminal reaches only this process,
 * which then decides; in a folder that every user can enter; without the caller's environment, where `PG*`
 * variables would change what the server does and secrets would be readable by another user. Messages are in
 * English: the start of the server is told from them.
 */
export function spawnOptions (account: Account | undefined) {
  const { PATH = '/usr/bin:/bin', TZ } = process.env
  return {
    cwd: '/',
    detached: true,
    env: { PATH, LC_ALL: 'C', ...(TZ === undefined ? {} : { TZ }) },
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid })
  }
}

export function startProgram (
  file: string, args: string[], account: Account | undefined, log: (line: string) => void = () => {}
): Program {
  const child = spawn(file, args, { ...spawnOptions(account), stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream, crlfDelay: Infinity }).on('line', line => {
      lines.push(line)
      if (lines.length > keptLines) lines.shift()
      log(line)
    })
  }
  let running = true
  const ended = ending(child).finally(() => {
    running = false
    child.stdout.destroy()
    child.stderr.destroy()
  })
  return {
    pid: child.pid,
    get running () { return running },
    ended,
    tail: () => lines.join('\n'),
    kill: signal => { child.kill(signal) },
    hold: holds => {
      // The pipes are sockets, though their type does not say so.
      for (const handle of [child, child.stdout, child.stderr] as Array<{ ref (): void, unref (): void }>) {
        holds ? keepFromExit(handle) : letExit(handle)
      }
    }
  }
}

/** 'close' comes when the last process that writes to the pipes is gone: for a server, that is its last backend. */
function ending (child: ChildProcess): Promise<Ending> {
  return new Promise(resolve => {
    child.once('error', error => resolve({ code: null, signal: null, error }))
    child.once('close', (code, signal) => resolve({ code, signal }))
    // A program that the server started (archive_command) may hold the pipes for longer than we care for.
    child.once('exit', (code, signal) => letExit(setTimeout(resolve, 2000, { code, signal })))
  })
}

/**
 * Ends a program: for the server, 'SIGINT' is the fast shutdown, 'SIGQUIT' the immediate one, after which the next
 * start recovers from the log. A harder one follows after five seconds, SIGKILL after ten.
 */
export async function stopProgram (program: Program, first: 'SIGINT' | 'SIGQUIT'): Promise<void> {
  program.hold(true)
  const timers = [
    setTimeout(() => program.kill('SIGQUIT'), patience),
    setTimeout(() => program.kill('SIGKILL'), 2 * patience)
  ]
  program.kill(first)
  await program.ended
  timers.forEach(clearTimeout)
}

/** Runs a program to its end. */
export async function runProgram (
  file: string, args: string[], account: Account | undefined
): Promise<Ending & { output: string }> {
  const program = startProgram(file, args, account)
  return { ...await program.ended, output: program.tail() }
}
