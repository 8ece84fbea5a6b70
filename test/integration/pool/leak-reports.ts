import { Writable } from 'node:stream'
import Fastify from 'fastify'
import type { Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { waitFor } from '../../../harness/wait-for.ts'

/** Milliseconds. */
export const leakDetectionThreshold = 60

interface Line {
  level: number
  msg: string
  route?: string
  held?: number
  stack?: string
}

/** An app that reports leaks, and what it has logged. */
export async function watchedApp (t: Test, options: PgScopeOptions) {
  const lines: Line[] = []
  const stream = new Writable({
    write (chunk, _encoding, done) {
      lines.push(...String(chunk).trim().split('\n').map((line) => JSON.parse(line)))
      done()
    }
  })
  const app = Fastify({ logger: { level: 'warn', stream } })
  t.teardown(() => app.close())
  await app.register(pgScope, { leakDetectionThreshold, ...options })
  const suspected = () => lines.filter(({ msg }) => msg === 'a connection is held longer than leakDetectionThreshold')
  const returned = () => lines.filter(({ msg }) => msg === 'a connection that was held longer than leakDetectionThreshold has come back')
  return { app, lines, suspected, returned }
}

export type Leaks = Awaited<ReturnType<typeof watchedApp>>
export type App = Leaks['app']

/** For holding a connection until it has been reported. */
export const reported = ({ suspected }: Leaks, count = 1) => waitFor(() => suspected().length >= count, { message: 'the report' })

/** One report while it was held, and one when it came back, with the route and the frame of the app that asked. */
export function checkReports (
  t: Test, { suspected, returned }: Leaks, { route, frame }: { route?: string | undefined, frame: string }
): void {
  t.equal(suspected().length, 1, 'reported once while it is held')
  t.equal(returned().length, 1, 'and once when it has come back')
  for (const report of [...suspected(), ...returned()]) {
    t.equal(report.level, 40)
    t.equal(report.route, route)
    // A timer counts from when the turn of the loop began, which may have been long on a busy machine.
    t.ok(report.held! >= leakDetectionThreshold / 2, `${report.held} ms`)
    const [first = '', ...others] = report.stack!.split('\n')
    t.match(first, new RegExp(`^ +at .*\\b${frame}\\b.*leaks\\.test\\.ts:\\d+:\\d+\\)?$`), 'the first frame is the app\'s')
    t.notMatch(others.join(), /lib\/(?:pool|session|engine|request)/)
    t.ok(others.length < 10)
  }
  t.ok(returned()[0]!.held! >= suspected()[0]!.held!)
}
