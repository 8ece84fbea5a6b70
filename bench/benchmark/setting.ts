/** What stands between the app and PostgreSQL, and how much is asked of it. */
export interface Setting {
  /** Milliseconds of a round trip, in addition to what the machine takes. */
  delay: number
  /** 'none', or the version of a PgBouncer in transaction mode; a plan may have its beginning, or 'newest'. */
  pooler: string
  /** Of the clients of the app; its pool always has ten. */
  connections: number
}

/** Connections of each pool. */
export const max = 10

export function titleOf ({ delay, pooler, connections }: Setting): string {
  return [pooler === 'none' ? 'directly' : `PgBouncer ${pooler}`, `${delay} ms`, `${connections} connections`].join(', ')
}
