/** What was seen on one connection, or on all of them. */
export class Tally {
  /** Connections that sent a StartupMessage; those opened for a CancelRequest only are counted in `cancels`. */
  connections = 0
  /** Sync and simple Query messages that were answered, the startup not included. */
  syncs = 0
  /**
   * Times that the client began to wait: it asked for an answer (Sync, Query, Flush) while none was outstanding.
   * Batches which are written behind another, before its answer has arrived, add nothing.
   */
  roundTrips = 0
  /** The texts of Parse and simple Query messages, in order. */
  statements: string[] = []
  /** The text of each Execute and simple Query, in order: also shows a named statement that is parsed once. */
  executed: string[] = []
  describes = 0
  cancels = 0
  /** CancelRequests whose socket the client closed before the server did, which kills PgBouncer 1.18. */
  cancelsClosedEarly = 0
  /** Bytes as received by the proxy. */
  bytes = { fromClient: 0, fromServer: 0 }

  reset (): void {
    Object.assign(this, new Tally())
  }
}
