import pg from 'pg'
import type { TargetSessionAttrs } from '../../types/options.ts'
import { endsConnection } from './sqlstate.ts'

/** What a server lets its sessions do. */
export interface ServerRole {
  /** It is a standby. */
  readonly inRecovery: boolean
  /** Its transactions are read-only unless they say otherwise. */
  readonly isReadOnly: boolean
}

/** A log of transactions: a standby that is promoted begins a new timeline. */
export interface Log {
  readonly system: string
  readonly timeline: number
}

/** Why a server with this role does not fit, or null. */
export function roleProblem (wants: TargetSessionAttrs, { inRecovery, isReadOnly }: ServerRole): string | null {
  switch (wants) {
    case 'primary':
      return inRecovery ? 'it is a standby' : null
    case 'read-write':
      if (inRecovery) return 'it is a standby'
      return isReadOnly ? 'its transactions are read-only (default_transaction_read_only)' : null
    case 'read-only':
      return inRecovery || isReadOnly ? null : 'it accepts writes'
    case 'standby':
    case 'prefer-standby':
      return inRecovery ? null : 'it is a primary'
    case 'any':
      return null
  }
}

/**
 * What the server announced at login, from PostgreSQL 14 on; null if it did not
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC).
 */
export function announcedRole (
  inHotStandby: string | undefined, defaultReadOnly: string | undefined
): ServerRole | null {
  if (inHotStandby === undefined || defaultReadOnly === undefined) return null
  return { inRecovery: inHotStandby === 'on', isReadOnly: defaultReadOnly === 'on' }
}

const asText = { getTypeParser: () => String }

async function ask (client: pg.Client, text: string): Promise<(string | null)[]> {
  const { rows: [row] } = await client.query<(string | null)[]>({ text, rowMode: 'array', types: asText })
  return row ?? []
}

export async function askRole (client: pg.Client): Promise<ServerRole> {
  const [inRecovery, isReadOnly] = await ask(client,
    'SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting(\'transaction_read_only\')')
  return { inRecovery: inRecovery === 't', isReadOnly: isReadOnly === 'on' }
}

/**
 * The log that a primary writes; null if it does not say, as servers that are not PostgreSQL may not.
 *
 * @throws if the connection is lost
 */
export async function askLog (client: pg.Client): Promise<Log | null> {
  try {
    const [system, timeline] = await ask(client, 'SELECT system_identifier, pg_catalog.substr(' +
      'pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) FROM pg_catalog.pg_control_system()')
    return system == null || timeline == null ? null : { system, timeline: parseInt(timeline, 16) }
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || endsConnection(error)) throw error
    return null
  }
}
