import type pg from 'pg'
import type { FastifyBaseLogger } from 'fastify'
import type { ResolvedOptions } from '../config/options.ts'
import { pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { closedError } from '../pool/pool-errors.ts'
import type { Pool } from '../pool/pool.ts'
import { connectError } from '../postgres/target.ts'
import type { StandIn } from '../stand-in.ts'
import { buildPool, type PoolParts } from './build-pool.ts'
import type { OpenWork } from './open-work.ts'
import type { Replicas } from './replicas/replicas.ts'
import type { EngineSessionHost } from './session-host.ts'

/** The work of an engine. */
interface EngineWork {
  readonly open: OpenWork
  /** A statement of `app.db.query()` is in progress. */
  isQuerying (): boolean
  isClosing (): boolean
}

/** How long sessions whose request is answered may take to end before their diversion is refused. Milliseconds. */
const patience = 250

const noSettings: Record<string, string> = Object.freeze(Object.create(null))

type OpenStandIn = (config: pg.ClientConfig, timeout: number) => Promise<StandIn>

/**
 * Which pools the sessions of an engine use: its own and those of its replicas, or one in their place whose connections
 * lead to a stand-in for the server. The host of the sessions names them.
 */
export class PoolInUse {
  readonly #host: EngineSessionHost
  readonly #own: Pool
  readonly #replicas: Replicas | null
  readonly #options: ResolvedOptions
  readonly #parts: PoolParts
  readonly #log: FastifyBaseLogger
  readonly #work: EngineWork
  /** Ends the diversion; null without one. */
  #end: (() => Promise<void>) | null = null

  constructor (
    host: EngineSessionHost, options: ResolvedOptions, parts: PoolParts, work: EngineWork, log: FastifyBaseLogger
  ) {
    this.#host = host
    this.#own = host.pool
    this.#replicas = host.replicas
    this.#options = options
    this.#parts = parts
    this.#work = work
    this.#log = log
  }

  /** @returns ends it */
  async divert (open: OpenStandIn): Promise<() => Promise<void>> {
    if (this.#work.isClosing()) throw closedError()
    if (this.#end !== null) {
      throw pgScopeError('FST_PG_SCOPE_TESTING', 'This engine has a sandbox already: close it before you open another.')
    }
    const made = this.#made(open)
    let ended: Promise<void> | null = null
    const end = (): Promise<void> => {
      ended ??= made.then((standIn) => this.#leave(standIn), () => {}).finally(() => { this.#end = null })
      return ended
    }
    this.#end = end
    await made.catch((error) => {
      this.#end = null
      throw error
    })
    return end
  }

  async #made (open: OpenStandIn): Promise<StandIn> {
    await this.#untilNoWork(patience)
    this.#check()
    const standIn = await this.#connect(open)
    try {
      // Sessions may have begun meanwhile.
      this.#check()
    } catch (error) {
      await standIn.close()
      throw error
    }
    this.#host.pool = this.#divertedPool(standIn)
    this.#host.replicas = null
    return standIn
  }

  async #connect (open: OpenStandIn): Promise<StandIn> {
    const { client, pool: { acquireTimeout } } = this.#options
    return await open(client, acquireTimeout).catch((error) => { throw connectError(error, this.#parts.target) })
  }

  #check (): void {
    if (this.#work.isClosing()) throw closedError()
    const { open } = this.#work
    if (open.isEmpty && !this.#work.isQuerying()) return
    throw pgScopeError('FST_PG_SCOPE_TESTING', 'A sandbox cannot be opened while sessions are open: their ' +
      'transactions would not be part of it. Open it before the first request, or await requests and sessions before.')
  }

  #divertedPool (standIn: StandIn): Pool {
    const { client, pool } = this.#options
    const lead = { ssl: false, hosts: undefined, stream: () => standIn.socket() as never }
    const config = ownFields<pg.ClientConfig>(client, lead)
    const limits = Object.freeze({
      ...pool,
      min: 0,
      max: 1,
      maxWaiting: Infinity,
      maxLifetime: 0,
      maxUses: Infinity,
      prePing: false,
      note: 'A sandbox of fastify-pg-scope/testing has one connection, which serves one session after another.'
    })
    // The stand-in reads no settings at login, so all of them travel with BEGIN.
    const parts = { ...this.#parts, baseline: () => noSettings }
    return buildPool(Object.freeze({ ...this.#options, client: config, pool: limits }), parts, this.#log)
  }

  async #leave (standIn: StandIn): Promise<void> {
    await this.#untilNoWork(this.#options.closeTimeout)
    const { pool } = this.#host
    this.#host.pool = this.#own
    this.#host.replicas = this.#replicas
    await pool.close()
    await standIn.close()
  }

  /** Waits for sessions and leases to end. @param timeout milliseconds */
  async #untilNoWork (timeout: number): Promise<void> {
    const { open } = this.#work
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => { timer = setTimeout(resolve, timeout, 'late') })
    while (open.sessions.size > 0 || open.leases.size > 0) {
      if (await Promise.race([open.nextChange(), late]) === 'late') break
    }
    clearTimeout(timer)
  }

  /** Closes all pools. */
  async close (): Promise<void> {
    await this.#end?.()
    await Promise.all([this.#own.close(), this.#replicas?.close()])
  }
}
