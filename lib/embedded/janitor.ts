import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { spawnOptions } from './program.ts'
import { keepFromExit, letExit } from '../process-exit.ts'
import type { Account } from './account.ts'

/** Cleans up after this process, however it ends. */
export interface Janitor {
  /** The process to stop if this one dies; undefined: none. */
  watch (pid: number | undefined): void
  /** Stops what is watched and removes the folder. Safe to call twice. */
  clean (): Promise<void>
}

/**
 * Its input is a pipe that only this process holds. When that ends, be it by clean(), by process.exit() or by `kill
 * -9`, the shell stops the server (SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one) and removes the
 * folder. So nothing has to be hooked into the process, and there is one way to the end, not one for each cause. A
 * zombie, which stays in containers whose first process does not reap, counts as ended.
 * https://www.postgresql.org/docs/18/server-shutdown.html
 */
const script = `
while read -r line; do pid=$line; done
alive () { kill -0 "$1" 2>/dev/null && ! grep -qs '^State:.*Z' "/proc/$1/status"; }
if [ -n "$pid" ] && kill -INT "$pid" 2>/dev/null; then
  tenths=0
  while alive "$pid"; do
    case $tenths in
      50) kill -QUIT "$pid" ;;
      80) kill -KILL "$pid" ;;
      100) break ;;
    esac
    tenths=$((tenths + 1))
    sleep 0.1
  done
fi
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$1" 2>/dev/null
  [ -e "$1" ] || break
  sleep 0.1
done
`

/** @param folder what to remove at the end; the account must be able to */
export function startJanitor (folder: string, account: Account | undefined): Janitor {
  const shell = spawn('/bin/sh', ['-c', script, 'sh', folder], {
    ...spawnOptions(account), stdio: ['pipe', 'ignore', 'ignore']
  })
  const gone = Promise.race([once(shell, 'exit'), once(shell, 'error')])
  // Whatever becomes of the shell, clean() sees to the folder.
  gone.catch(() => {})
  shell.stdin.on('error', () => {})
  letExit(shell)
  letExit(shell.stdin as unknown as { unref (): void })
  return {
    watch: pid => { shell.stdin.write(`${pid ?? ''}\n`) },
    clean: async () => {
      keepFromExit(shell)
      shell.stdin.end()
      await gone.catch(() => {})
      if (existsSync(folder)) await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}
