/** A running server, as startPostgres() returns it. */
export interface EmbeddedPostgres {
  /** Leads to `database` as `user`. Contains the password. */
  readonly connectionString: string
  /** Always 127.0.0.1. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
  readonly dataFolder: string
  /** The server's process; another one after restart(). */
  readonly pid: number
  /**
   * Ends the server, and its clients' connections with it, and removes the data folder if it is a temporary one. A fast
   * shutdown; after five seconds an immediate one, after ten SIGKILL. Safe to call twice: both wait for the same end.
   */
  stop (): Promise<void>
  /**
   * Ends the server and starts it again, with the same port and data. Calls wait for each other.
   *
   * @param mode 'fast' (default) ends the connections in good order; 'immediate' is like a crash: the server
   *   recovers at
   * the start, and with `durable: false` it may have lost the last commits
   * @throws FST_PG_SCOPE_EMBEDDED after stop(), or if the server does not come back within `startTimeout`
   */
  restart (mode?: 'fast' | 'immediate'): Promise<void>
  [Symbol.asyncDispose] (): Promise<void>
}
