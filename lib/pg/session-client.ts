import { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import pg, { type CustomTypesConfig } from 'pg'
import type { CallConfig } from '../library-session.ts'
import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { type Step, stepsOf } from './control-statement.ts'
import { cursorOf, openCursor } from './cursor.ts'
import { ClientProgress } from './client-progress.ts'
import { answer, type Callback, readArguments } from './statement-arguments.ts'

const noop = (): void => {}

/**
 * What a library takes for a client of pg: its statements run on a session, or on an engine, where each is committed by
 * itself. Each call enters the order of the session at once: see ClientProgress.
 */
export class SessionClient extends EventEmitter {
  /** A client of pg has it; zapatos looks for it. */
  readonly _connected = true
  readonly processID = null
  /** Called for each call. */
  readonly #target: () => Session | Engine
  #types: CustomTypesConfig | undefined
  /** For each session and engine that the client was used on: requests that share a client stay apart. */
  #progress: WeakMap<object, ClientProgress> | null = null
  #connection: EventEmitter | null = null

  constructor (target: () => Session | Engine, config?: { types?: CustomTypesConfig | undefined }) {
    super()
    this.#target = target
    this.#types = config?.types
  }

  connect (callback?: Callback): Promise<unknown> | undefined {
    return answer(Promise.resolve(this), callback)
  }

  query (first: any, second?: any, third?: any): any {
    if (typeof first?.submit === 'function') return this.#submit(first, second ?? third)
    const { text, config, callback } = readArguments(first, second, third, this.#types)
    return answer(this.#run(text, config), callback)
  }

  /** Where a call runs, and what this client has begun there. */
  #here (): ClientProgress {
    const target = this.#target()
    this.#progress ??= new WeakMap()
    let here = this.#progress.get(target)
    if (here === undefined) this.#progress.set(target, here = new ClientProgress(target))
    return here
  }

  #run (text: unknown, config: CallConfig): Promise<any> {
    const values = config.values as readonly unknown[] | undefined
    try {
      const here = this.#here()
      const isWhole = typeof text !== 'string' || (Array.isArray(values) && values.length > 0)
      const steps: Step[] | null = isWhole ? null : stepsOf(text)
      return steps === null ? here.send(config) : here.run(steps, config)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** For pg-cursor and pg-query-stream. The session rejects others, with the alternative. */
  #submit (submittable: any, callback?: Callback): any {
    submittable.callback ??= callback
    const here = this.#here()
    const cursor = cursorOf(submittable)
    if (cursor !== null) {
      const { text, values, _conf: { rowMode, types } } = cursor
      const config = { text, values: values ?? [], ...(rowMode && { rowMode }), ...(types !== undefined && { types }) }
      const batchSize = Math.max(1, submittable.readableHighWaterMark ?? 100)
      openCursor(cursor, here.stream(config, batchSize))
      return submittable
    }
    const refused: Promise<unknown> = here.send(submittable)
    if (!(submittable instanceof Readable) && typeof submittable.destroy !== 'function') return refused
    refused.catch((error) => submittable.destroy(error))
    return submittable
  }

  /** Where the client is used now, or null outside of all sessions that it follows. */
  #found (): ClientProgress | null {
    try {
      return this.#here()
    } catch {
      return null
    }
  }

  /** Rolls back what the library has left open. */
  release (_error?: Error | boolean): void {
    this.#found()?.leave().catch(noop)
  }

  end (callback?: Callback): Promise<void> | undefined {
    const left = this.#found()?.leave() ?? Promise.resolve()
    return answer(left.catch(noop).then(() => { this.emit('end') }), callback)
  }

  getTransactionStatus (): string {
    return this.#found()?.status ?? 'I'
  }

  getTypeParser (oid: number, format?: 'text' | 'binary'): unknown {
    return (this.#types ?? pg.types).getTypeParser(oid, format as any)
  }

  setTypeParser (oid: number, ...rest: [any, any?]): void {
    const overrides = this.#types instanceof pg.TypeOverrides ? this.#types : new pg.TypeOverrides(this.#types as any)
    ;(overrides.setTypeParser as any)(oid, ...rest)
    this.#types = overrides
  }

  ref (): void {}
  unref (): void {}

  /** Sequelize listens here for what the server announces. */
  get connection (): EventEmitter {
    this.#connection ??= new EventEmitter()
    return this.#connection
  }
}

// For libraries that ask for `instanceof pg.Client`. Its constructor would make a socket.
Object.setPrototypeOf(SessionClient.prototype, pg.Client.prototype)
