/** The delays between the runs of handlers and functions. They end early when the engine closes. */
export class RetryDelays {
  readonly #running = new Set<() => void>()
  #isStopped = false

  /** The app is closing: nothing is run again. */
  get isStopped (): boolean {
    return this.#isStopped
  }

  /**
   * @param duration in milliseconds
   * @param onStop is called with a function that ends the delay, and returns one that removes it
   * @returns false if it was ended early
   */
  wait (duration: number, onStop: (stop: () => void) => () => void): Promise<boolean> {
    if (this.#isStopped) return Promise.resolve(false)
    return new Promise((resolve) => {
      const end = (elapsed: boolean): void => {
        clearTimeout(timer)
        this.#running.delete(stop)
        remove()
        resolve(elapsed)
      }
      const stop = (): void => end(false)
      const timer = setTimeout(() => end(true), duration)
      this.#running.add(stop)
      const remove = onStop(stop)
    })
  }

  /** Ends all delays, and every later one. */
  stop (): void {
    this.#isStopped = true
    for (const stop of this.#running) stop()
  }
}
