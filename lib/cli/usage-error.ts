/** What was typed cannot be meant, or not be done: the process ends with `status`. Any other error ends it with 1. */
export class UsageError extends Error {
  readonly status: number

  constructor (message: string, status = 2) {
    super(message)
    this.status = status
  }
}
