/** What a variant came to. */
export interface Tally {
  passed: number
  failed: number
  /** Marked as about something else than this variant, or skipped. */
  notRun: number
}

export function sum (tallies: readonly Tally[]): Tally {
  return tallies.reduce(
    (a, b) => ({ passed: a.passed + b.passed, failed: a.failed + b.failed, notRun: a.notRun + b.notRun }),
    { passed: 0, failed: 0, notRun: 0 }
  )
}

export function describe ({ passed, failed, notRun }: Tally): string {
  return `${passed} passed, ${failed} failed, ${notRun} not run`
}

/**
 * Reads a TAP stream line by line (https://testanything.org/tap-version-14-specification.html): counts as tap's
 * last line does, and passes on what failed.
 */
export class TapReader {
  #summary: Record<string, number> | undefined
  #marked = 0
  #emptyFiles = 0
  #failing = false
  readonly #show: (line: string) => void

  constructor (show: (line: string) => void) {
    this.#show = show
  }

  line (line: string): void {
    if (/^ *not ok /.test(line)) this.#failing = true
    if (this.#failing) this.#show(line)
    if (/^ *(?:\.\.\.|ok .*)$/.test(line)) this.#failing = false
    if (/^ *# not run /.test(line)) this.#marked++
    if (/^ok .* # SKIP no tests found/.test(line)) this.#emptyFiles++
    if (/^# \{ total: /.test(line)) {
      this.#summary = Object.fromEntries(
        Array.from(line.matchAll(/(\w+): (\d+)/g), ([, name, count]) => [name, Number(count)])
      )
    }
  }

  /**
   * @param exitCode tap's. It counts where the lines told of no failure, as when tap has crashed
   * @param options.maySkip whether a test may skip itself
   */
  tally (exitCode: number, { maySkip }: { maySkip: boolean }): Tally {
    const { total = 0, pass = 0, skip = 0, todo = 0 } = this.#summary ?? {}
    // A file whose tests are all marked is one that tap skips.
    const skipped = skip + todo - this.#emptyFiles
    const failed = total - pass - skip - todo + (maySkip ? 0 : skipped)
    return {
      passed: pass,
      failed: failed === 0 && (exitCode !== 0 || this.#summary === undefined) ? 1 : failed,
      notRun: this.#marked + (maySkip ? skipped : 0)
    }
  }
}
