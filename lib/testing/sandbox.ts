import { checkOptions, isText, type Rules } from '../config/option-rules.ts'
import { exposeDetails, pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import { divert, type DivertibleEngine } from '../stand-in.ts'
import { StandInServer } from './stand-in-server.ts'

/** As much of a FastifyInstance as is needed, whatever its server, logger and type provider. */
export interface TestedApp {
  ready (): PromiseLike<unknown>
}

export interface SandboxOptions {
  /** The `decorator` of the engine. Default 'db'. */
  decorator?: string
}

/** A database that forgets. See {@link openSandbox}. */
export interface Sandbox {
  /**
   * Undoes everything since openSandbox() or the last rollback(), for use between tests. Waits for transactions that
   * are still open, as long as `pool.acquireTimeout`.
   *
   * @throws FST_PG_SCOPE_TESTING when one stays open, when no connection can be opened in place of a lost one, and
   * after close()
   */
  rollback (): Promise<void>
  /**
   * Undoes everything and ends the sandbox: the app works on the database again. Waits for open sessions, as long as
   * `closeTimeout`. Only the first call has an effect. `app.close()` does it too.
   */
  close (): Promise<void>
  [Symbol.asyncDispose] (): Promise<void>
}

const rules: Rules = { decorator: isText } satisfies Record<keyof SandboxOptions, unknown>

/**
 * Makes every session of the app a savepoint in one transaction that is never committed. What a request commits is
 * seen by the requests after it, in this app only, and undone by rollback() or close().
 *
 * The sandbox has one connection, so that sessions are served one after another. A request that needs a second
 * session while its own has a transaction open is rejected with FST_PG_SCOPE_POOL_DEADLOCK.
 *
 * ```ts
 * const sandbox = await openSandbox(app)
 * afterEach(() => sandbox.rollback())
 * after(() => app.close())
 * ```
 *
 * @param app the app that the plugin is registered on. It need not be ready.
 * @throws FST_PG_SCOPE_TESTING when the app has no engine, has open sessions or has a sandbox already
 * @throws FST_PG_SCOPE_CLOSED when the app is closed
 * @throws FST_PG_SCOPE_UNREACHABLE or FST_PG_SCOPE_LOGIN_REFUSED when no connection can be opened
 * @throws FST_PG_SCOPE_OPTIONS for an unknown option or an invalid value
 */
export async function openSandbox (app: TestedApp, options: SandboxOptions = {}): Promise<Sandbox> {
  try {
    checkOptions(options, rules, 'openSandbox: options.')
    return await open(app, options.decorator ?? 'db')
  } catch (error) {
    throw exposeDetails(error)
  }
}

async function open (app: TestedApp, name: string): Promise<Sandbox> {
  if (typeof app?.ready !== 'function') {
    throw testingError(`\`openSandbox(app)\` takes a Fastify app, got ${kindOf(app)}.`)
  }
  await app.ready()
  const engine = engineOf(app, name)
  if (engine === null) {
    throw testingError(`\`app.${name}\` is not an engine of fastify-pg-scope: register the plugin on this app, or ` +
      'name its decorator: openSandbox(app, { decorator: \'reporting\' }).')
  }
  let server: StandInServer | null = null
  const end = await engine[divert](async (config, timeout) => {
    server = await StandInServer.open(config, timeout)
    return server
  })
  return {
    rollback: () => server!.restart(),
    close: end,
    [Symbol.asyncDispose]: end
  }
}

function engineOf (app: TestedApp, name: string): DivertibleEngine | null {
  const engine: unknown = (app as unknown as Record<string, unknown>)[name]
  return typeof engine === 'object' && engine !== null && divert in engine ? engine as DivertibleEngine : null
}

function testingError (details: string): Error {
  return pgScopeError('FST_PG_SCOPE_TESTING', details)
}
