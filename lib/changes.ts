/** Wakes code that waits for a state to change. */
export class Changes {
  /** Allocated lazily. */
  #waiting: (() => void)[] | null = null

  /** Resolves at the next change. */
  next (): Promise<void> {
    return new Promise((resolve) => { (this.#waiting ??= []).push(resolve) })
  }

  announce (): void {
    const waiting = this.#waiting
    if (waiting === null) return
    this.#waiting = null
    for (const wake of waiting) wake()
  }
}
