/** The delays between the attempts of handlers and functions. They end early when the engine closes. */
export class RetryDelays {
  readonly #running = new Set<() => void>()
  #isStopped = false

  /** The app is closing: no further attempt is made. */
  get isStopped (): boolean {
    return this.#isStopped
  }

  /**
   * @param duration in milliseconds
   * @param onStart is called with a function that ends the delay
   * @returns false if it was ended early
   */
  wait (duration: number, onStart: (stop: () => void) => void): Promise<boolean> {
    if (this.#isStopped) return Promise.resolve(false)
    return new Promise((resolve) => {
      const end = (elapsed: boolean): void => {
        clearTimeout(timer)
        this.#running.delete(stop)
        resolve(elapsed)
      }
      const stop = (): void => end(false)
      const timer = setTimeout(() => end(true), duration)
      this.#running.add(stop)
      onStart(stop)
    })
  }

  /** Ends all delays, and every later one. */
  stop (): void {
    this.#isStopped = true
    for (const stop of this.#running) stop()
  }
}
