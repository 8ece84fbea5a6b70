/**
 * Where the time of a request went, as its header Server-Timing says (https://www.w3.org/TR/server-timing/):
 *
 *     acquire   waiting for connections
 *     db        waiting for statements, without that; statements at the same time count once
 *     commit    waiting for the end of the session
 */
export class ServerTiming {
  /** The value of the header, once show() was called. */
  header = ''
  /** What others have put there. */
  #others = ''
  #acquire = 0
  #commit: number | null = null
  /** Of all times in which a statement was running. */
  #busy = 0
  #running = 0
  #since = 0

  statementCalled (now: number): void {
    if (this.#running++ === 0) this.#since = now
  }

  statementEnded (now: number): void {
    if (--this.#running === 0) this.#busy += now - this.#since
  }

  acquired (duration: number): void {
    this.#acquire += duration
  }

  settled (duration: number): void {
    this.#commit = (this.#commit ?? 0) + duration
  }

  /** @param found what the header says already: of others, or of this before an error took the response's place */
  show (found: unknown): void {
    if (this.header === '' || found !== this.header) this.#others = found === undefined ? '' : `${String(found)}, `
    this.header = this.#others + this.#own()
  }

  #own (): string {
    const running = this.#running === 0 ? 0 : performance.now() - this.#since
    const parts = [part('db', Math.max(0, this.#busy + running - this.#acquire)), part('acquire', this.#acquire)]
    if (this.#commit !== null) parts.push(part('commit', this.#commit))
    return parts.join(', ')
  }
}

function part (name: string, duration: number): string {
  return `${name};dur=${duration.toFixed(2)}`
}
