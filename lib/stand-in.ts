// The way in for fastify-pg-scope/testing: an engine can lead its sessions to a stand-in for the server.
import type { Duplex } from 'node:stream'
import type pg from 'pg'

/** A server inside of this process. It serves one connection at a time. */
export interface StandIn {
  /** Makes a socket that leads to it, for pg's option `stream`. */
  socket (): StandInSocket
  close (): Promise<void>
}

/** It is not connected before `connect()`, like a net.Socket. */
export interface StandInSocket extends Duplex {
  /** Makes another socket that leads to the same server: a CancelRequest has a socket of its own. */
  another (): StandInSocket
}

/** Registered, so that two copies of the package agree on it. */
export const divert: unique symbol = Symbol.for('fastify-pg-scope.divert') as never

export interface DivertibleEngine {
  /**
   * Leads every session that begins from now on to a stand-in for the server. The pool then has one connection.
   *
   * @param open makes the stand-in from the configuration of the engine's connections; `timeout` is how long a session
   * may wait for a connection, in milliseconds
   * @returns ends it: waits up to `closeTimeout` for open sessions, and leads the next ones to the server again
   * @throws FST_PG_SCOPE_TESTING when sessions are open, or when the engine is diverted already; FST_PG_SCOPE_CLOSED;
   * what `open` rejects with
   */
  [divert] (open: (config: pg.ClientConfig, timeout: number) => Promise<StandIn>): Promise<() => Promise<void>>
}

/** Whether a socket leads to a stand-in. */
export function isStandInSocket (socket: Duplex): socket is StandInSocket {
  return 'another' in socket
}
