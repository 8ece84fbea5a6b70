import { modesError, modeTexts, type TransactionModes } from '../../transaction-modes.ts'
import type { SavepointHost } from '../savepoint-ends.ts'

const noop = (): void => {}

/**
 * Sends what sets the modes of a transaction in front of its SAVEPOINT.
 *
 * @param isInside it is inside of the session's transaction, which may have begun with other modes
 * @returns sends what follows SAVEPOINT
 */
export function modeSetter (host: SavepointHost, modes: TransactionModes, isInside: boolean): () => Promise<void> {
  const { before, inside, isLate } = modeTexts(modes, host.modes(), host.transaction() === null)
  if (before !== null) host.send(before, true).catch(noop)
  return async () => {
    if (inside === null) return
    const sent = host.send(inside)
    // Unless it is late, a failure is reported by the statements after it.
    if (isLate) await sent.catch((error) => { throw isInside ? modesError(error, modes) : error })
    else sent.catch(noop)
  }
}
