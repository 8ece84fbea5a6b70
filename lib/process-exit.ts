/** A timer, socket or child process, which can keep a process from exiting. In some runtimes a timer is a number. */
type Handle = { ref? (): unknown, unref? (): unknown } | number

/** The process may exit although the handle is active. */
export function letExit (handle: Handle): void {
  (handle as Exclude<Handle, number>).unref?.()
}

/** The process does not exit while the handle is active. */
export function keepFromExit (handle: Handle): void {
  (handle as Exclude<Handle, number>).ref?.()
}
