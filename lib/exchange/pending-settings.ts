import type { Settings } from './transaction-config.ts'

/** Settings that a user's function computes asynchronously. No connection is acquired before they are known. */
export class PendingSettings {
  isPending = true

  constructor (promise: Promise<Settings>, known: (settings: Settings) => void, failed: (error: Error) => void) {
    promise.then((settings) => {
      if (this.cancel()) known(settings)
    }, (error) => {
      if (this.cancel()) failed(error)
    })
  }

  /** Ignores the result. @returns whether it was still pending */
  cancel (): boolean {
    const { isPending } = this
    this.isPending = false
    return isPending
  }
}
