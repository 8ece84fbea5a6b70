/**
 * A position in the write-ahead log
 * (https://www.postgresql.org/docs/current/datatype-pg-lsn.html), and the log that it belongs to.
 */
export interface WalPosition {
  /** The system identifier. */
  readonly system: string
  readonly timeline: number
  /** As PostgreSQL writes it: 0/3019F88. */
  readonly lsn: string
}

const form = /^(\d{1,20})\.(\d{1,10})\.([0-9A-F]{1,8}\/[0-9A-F]{1,8})$/

/** @returns null if the text is not one of formatPosition() */
export function parsePosition (text: string): WalPosition | null {
  const [, system, timeline, lsn] = form.exec(text) ?? []
  return system === undefined ? null : { system, timeline: Number(timeline), lsn: lsn! }
}

export function formatPosition ({ system, timeline, lsn }: WalPosition): string {
  return `${system}.${timeline}.${lsn}`
}

/** Whether a server that has replayed its log up to `replayed` has replayed `lsn`. */
export function isReached (lsn: string, replayed: string): boolean {
  return comparable(lsn) <= comparable(replayed)
}

/** The later one of two positions that formatPosition() returned; null is none. */
export function laterPosition (one: string | null, other: string | null): string | null {
  const [first, second] = [one, other].map((text) => text === null ? null : parsePosition(text))
  if (first == null || second == null) return one ?? other
  if (first.system !== second.system) return other
  // Each promotion begins a timeline.
  const isLater = first.timeline === second.timeline
    ? isReached(second.lsn, first.lsn)
    : first.timeline > second.timeline
  return isLater ? one : other
}

/** In this form positions have the order of their texts. */
function comparable (lsn: string): string {
  return lsn.split('/').map((half) => half.padStart(8, '0')).join('')
}
