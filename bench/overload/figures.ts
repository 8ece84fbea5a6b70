import type { Answer } from './load.ts'

/** What became of the requests of one load. */
export interface Figures {
  name: string
  /** Requests a second that the app could bear at that time. */
  capacity: number
  /** Requests a second that were sent. */
  offered: number
  /** Requests a second that were served. */
  goodput: number
  served: number
  /** By the code of the error. */
  refused: Record<string, number>
  /** Milliseconds until a success, and until the slowest refusal. */
  median: number
  slowest: number
  slowestRefusal: number
  /** Answers that are neither a success nor a 503 with Retry-After. */
  wrong: number
}

/** @param from performance.now() from which on answers count, and `to` up to which */
export function figuresOf (
  name: string, capacity: number, answers: readonly Answer[], from = -Infinity, to = Infinity
): Figures {
  const sent = answers.filter((answer) => answer.sent >= from && answer.sent < to)
  const received = answers.filter((answer) => answer.received >= from && answer.received < to)
  const begin = Math.max(from, Math.min(...answers.map((answer) => answer.sent)))
  const end = Math.min(to, Math.max(...answers.map((answer) => answer.received)))
  const seconds = (end - begin) / 1000
  const served = received.filter(({ status }) => status === 200)
  const refused: Record<string, number> = {}
  for (const { status, code } of received) if (status === 503) refused[code] = (refused[code] ?? 0) + 1
  const waits = served.map(waitOf).sort((a, b) => a - b)
  return {
    name,
    capacity,
    offered: sent.length / seconds,
    goodput: served.length / seconds,
    served: served.length,
    refused,
    median: waits[waits.length >> 1] ?? 0,
    slowest: waits.at(-1) ?? 0,
    slowestRefusal: Math.max(0, ...received.filter(({ status }) => status === 503).map(waitOf)),
    wrong: received.filter(
      ({ status, retryAfter }) => status !== 200 && !(status === 503 && retryAfter !== undefined)
    ).length
  }
}

const waitOf = ({ sent, received }: Answer): number => received - sent

/** Served requests a second, as a part of what the app could bear. */
export const partOf = ({ goodput, capacity }: Figures): number => goodput / capacity

/** The round that served neither most nor least. */
export function middle (rounds: readonly Figures[]): Figures {
  return [...rounds].sort((a, b) => partOf(a) - partOf(b))[rounds.length >> 1]!
}

export function table (rows: readonly Figures[]): string {
  const lines = rows.map(({ name, capacity, offered, goodput, refused, median, slowest, slowestRefusal, wrong }) => [
    name,
    capacity.toFixed(0),
    offered.toFixed(0),
    `${goodput.toFixed(0)} (${(goodput / capacity * 100).toFixed(0)} %)`,
    Object.entries(refused).map(([code, count]) => `${count} ${code.replace('FST_PG_SCOPE_POOL_', '')}`).join(', ') || '0',
    `${median.toFixed(0)} ms`,
    `${slowest.toFixed(0)} ms`,
    `${slowestRefusal.toFixed(0)} ms`,
    wrong
  ])
  return [
    ['load', 'can bear/s', 'sent/s', 'served/s', 'refused with 503 and Retry-After', 'median success', 'slowest success', 'slowest refusal', 'other answers'],
    Array(9).fill('---'),
    ...lines
  ].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
