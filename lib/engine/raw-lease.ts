import type { FastifyBaseLogger } from 'fastify'
import type { RawClient } from '../../types/engine.ts'
import type { Lease } from '../pool/lease.ts'
import type { Pool } from '../pool/pool.ts'
import { asWorkOf, currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import { makeRaw } from '../postgres/raw-client.ts'
import type { OpenWork } from './open-work.ts'

/**
 * Runs fn with an ordinary pg.Client, on a connection that no session uses before or after it. The connection is
 * closed when fn settles, because its state is unknown.
 */
export async function withRawLease<T> (
  pool: Pool, work: OpenWork, log: FastifyBaseLogger, fn: (client: RawClient) => Promise<T> | T
): Promise<T> {
  const owner = { isClosed: false }
  const lease = await acquire(pool, work, owner)
  let settled = false
  const giveBack = (): void => {
    owner.isClosed = true
    lease.destroy()
  }
  const { client, prepared } = lease.connection
  // A lost connection no longer counts against `max`, even if fn does not notice the loss and runs on.
  lease.usedBy({ unanswered: 0, connectionLost: giveBack })
  makeRaw(client, prepared?.named() ?? [], (error) => {
    if (!settled) log.error({ err: error }, 'a stream on a leased client failed, and it has no error listener')
  })
  try {
    return await asWorkOf(owner, () => fn(client))
  } finally {
    settled = true
    work.leases.delete(lease)
    giveBack()
    work.changed()
  }
}

async function acquire (pool: Pool, work: OpenWork, owner: ConnectionOwner): Promise<Lease> {
  work.waitingForLease++
  try {
    const lease = await new Promise<Lease>((resolve, reject) => pool.acquire({
      requireNew: false,
      exclusive: true,
      owner,
      context: currentWork(),
      label: undefined,
      entry: null,
      trace: null,
      granted: resolve,
      refused: reject
    }))
    work.leases.add(lease)
    return lease
  } finally {
    work.waitingForLease--
    work.changed()
  }
}
