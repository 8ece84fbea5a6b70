/** What may keep a process from exiting: a timer, a socket, a child process. Some runtimes have plain numbers for timers. */
type Handle = { ref? (): unknown, unref? (): unknown } | number

/** The process need not wait for it. */
export function letExit (handle: Handle): void {
  (handle as Exclude<Handle, number>).unref?.()
}

/** The process waits for it. */
export function keepFromExit (handle: Handle): void {
  (handle as Exclude<Handle, number>).ref?.()
}
