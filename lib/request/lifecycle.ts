import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { PgEngine } from '../engine/engine.ts'
import { explain } from '../engine/retries.ts'
import { exposeDetails } from '../errors.ts'
import type { ResolvedOptions } from '../config/options.ts'
import { routeConfig, type SessionConfig } from '../config/session-config.ts'
import { traceparentOf } from '../config/trace-policy.ts'
import { ownFields } from '../own-fields.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { RequestLabel } from '../telemetry/request-label.ts'
import { settingsFor } from '../session/request-settings.ts'
import type { Done } from './answer.ts'
import { EarlySession } from './early-session.ts'
import { HandlerAttempts } from './handler-attempts.ts'
import { IdempotencyOpenApi } from './idempotency-openapi.ts'
import { IdempotentRequest, keyOf } from './idempotent-request.ts'
import { announceEnd, noteClosing, notePipelined } from './last-response.ts'
import { isHijacked, isUpgrade, onHijack, releaseWhileHijacked } from './hijack.ts'
import { runLast, runsLast } from './last-hook.ts'
import { areRows, asNdjson } from './ndjson.ts'
import { PositionTokens } from './position-tokens.ts'
import { RequestScope } from './request-scope.ts'
import { ServerTimings, withServerTiming } from './server-timing.ts'
import { runAsCurrent } from './current-request.ts'
import { runWith, tellWhenHandled } from './wrapped-handler.ts'

type OnSend = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: Done) => void

/**
 * Registers Fastify's hooks, which follow a request from the first use of its session to its end.
 * docs/how-a-request-ends.md explains why each hook is needed.
 */
export function followRequests (app: FastifyInstance, engine: PgEngine, options: ResolvedOptions): void {
  const { decorator, defaults, exposeErrors, replicas, traceContext } = options
  // Symbols of this registration: the app may have several engines.
  const mark = Symbol(decorator)
  const configMark = Symbol(`${decorator}.config`)
  /**
   * Fastify resets each decorator for each request, so one property holds everything: the reply until the session is
   * used (in a handler with `retry`, its attempts), and its scope from then on.
   */
  type Marked = FastifyRequest & { [mark]: RequestScope | HandlerAttempts | SentBody | FastifyReply | null }
  const scopeOf = (request: FastifyRequest): RequestScope | null => {
    const marked = (request as Marked)[mark]
    return marked instanceof RequestScope ? marked : null
  }
  const attemptsOf = (request: FastifyRequest): HandlerAttempts | null => {
    const marked = (request as Marked)[mark]
    return marked instanceof HandlerAttempts ? marked : scopeOf(request)?.attempts ?? null
  }
  /** Requests in which an error was thrown before their session was used. */
  const thrown = new WeakSet<FastifyRequest>()
  const otherwise = routeConfig(defaults, {}, '')
  const late = new WeakMap<object, SessionConfig>()
  /** Null: clients are not told where they have written. */
  const tokens = replicas === null || replicas.readYourWrites === null
    ? null
    : new PositionTokens(replicas.readYourWrites, app.log)
  const timings = new ServerTimings(engine)

  app.decorateRequest(mark, null)
  if (tokens !== null) app.decorateRequest(tokens.mark, null)
  app.decorateRequest(decorator as 'db', {
    getter (this: FastifyRequest) {
      const marked = (this as Marked)[mark]
      const scope = marked instanceof RequestScope ? marked : open(this as Marked, marked)
      return scope.attempts === null && scope.config.retry !== null ? early(scope) : scope.session
    }
  })

  app.addHook('onRequest', (request, reply, done) => {
    const scope = scopeOf(request)
    if (scope === null) (request as Marked)[mark] = reply
    else scope.attach(reply)
    notePipelined(request.raw, reply.raw)
    runAsCurrent(engine, request, decorator, tokens === null ? null : tokens.writerOf(request), done)
  })

  app.addHook('onError', (request, reply, error, done) => {
    if (exposeErrors) exposeDetails(error)
    const scope = scopeOf(request)
    if (attemptsOf(request)?.fails(error)) return
    if (scope === null) thrown.add(request)
    else {
      explainUnrepeated(scope, error)
      scope.failed(reply)
    }
    done()
  })

  const settle: OnSend = (request, reply, payload, done) => {
    const scope = scopeOf(request)
    const told = tokens === null ? done : tokens.telling(request, reply, done)
    if (scope !== null) {
      const { timing } = scope.session.label!
      return scope.send(reply, payload, timing === null ? told : withServerTiming(reply, timing, told))
    }
    // A stream may first use the session while it is being sent.
    if (typeof payload === 'object' && payload !== null) (request as Marked)[mark] = new SentBody(reply, payload)
    told()
  }

  /** Before the handler of a WebSocket: the client sees the switch of protocols after COMMIT was answered. */
  const upgrade = async (request: FastifyRequest): Promise<void> => {
    if (isUpgrade(request)) await scopeOf(request)?.upgrade()
  }

  // For routes unknown to the onRoute hook below: 404 handlers, and routes declared before the plugin was registered.
  app.addHook('onSend', ((request, reply, payload, done) => {
    announceEnd(reply)
    const scope = scopeOf(request)
    if (scope === null) {
      // A body may still use the session, and app.db.query() may have written.
      const mayMatter = tokens !== null || (typeof payload === 'object' && payload !== null)
      if (!mayMatter || isSeen(request) || runsLast(request, settle)) done()
      else settle(request, reply, payload, done)
      return
    }
    // Later hooks, such as compression, can process text but not rows.
    let body = areRows(payload) ? asNdjson(payload, reply) : payload
    try {
      if (scope.attempts !== null) body = scope.attempts.pass(body)
    } catch (error) { // an answer that cannot be kept
      return done(error as Error)
    }
    if (scope.routed || runsLast(request, settle)) done(null, body)
    else settle(request, reply, body, done)
  }) as OnSend as never)

  const openApi = new IdempotencyOpenApi(app)

  app.addHook('onRoute', function (route) {
    const { [decorator]: own = {} } = ownFields((route.config ?? {}) as Record<string, unknown>)
    // Set for @fastify/websocket.
    const { websocket, wsHandler } = route as { websocket?: boolean, wsHandler?: unknown }
    const declared = declaredConfig(own, `${String(route.method)} ${route.url}: config.${decorator}.`)
    // This handler gets a socket in place of a reply, and is called once the protocol has changed.
    const sessionConfig = websocket === true ? { ...declared, retry: null, idempotency: null } : declared
    route.config = Object.assign({}, route.config, { [configMark]: sessionConfig })
    runLast(route, 'onSend', settle)
    if (sessionConfig.retry !== null || sessionConfig.idempotency !== null) {
      runWith(route, mark, (request, reply, handle) => begin(request as Marked, reply, handle))
    }
    if (sessionConfig.idempotency !== null) openApi.add(route, this, sessionConfig.idempotency)
    if (websocket === true || wsHandler !== undefined) runLast(route, 'preHandler', upgrade)
    if (sessionConfig.onAbort === 'commit') tellWhenHandled(route, (request) => scopeOf(request)?.handled())
  })

  // A WebSocket may stay open for hours.
  onHijack(app, (request, reply) => {
    const scope = scopeOf(request)
    if (scope !== null) hijacked(scope, request, reply)
  })

  app.addHook('preClose', (done) => {
    noteClosing(app)
    engine.drain()
    done()
  })
  app.addHook('onClose', async () => {
    await engine.close()
    timings.close()
  })

  function isSeen (request: FastifyRequest): boolean {
    return (request.routeOptions.config as unknown as Record<symbol, unknown> | undefined)?.[configMark] !== undefined
  }

  /** @param marked null if none of this plugin's hooks has run yet */
  function open (request: Marked, marked: HandlerAttempts | SentBody | FastifyReply | null): RequestScope {
    // Fastify creates it anew for each access.
    const { config, url } = request.routeOptions as unknown as { config?: Record<PropertyKey, unknown>, url?: string }
    const declared = config?.[configMark] as SessionConfig | undefined
    const scope = new RequestScope(request, declared ?? unseen(config, request), declared !== undefined)
    scope.use(openSession(request, scope, url), thrown.has(request))
    request[mark] = scope
    if (marked === null) scope.attachSocket()
    else if (marked instanceof SentBody) scope.attachBody(marked.reply, marked.payload)
    else {
      const reply = marked instanceof HandlerAttempts ? marked.use(scope) : marked
      scope.attach(reply)
      if (isHijacked(reply)) hijacked(scope, request, reply)
    }
    return scope
  }

  function openSession (request: FastifyRequest, scope: RequestScope, url: string | undefined): ManagedSession {
    const { requestSettings } = scope.config
    const settings = requestSettings === null ? undefined : settingsFor(request, requestSettings)
    // All attempts of a handler have the same.
    const label = scope.session?.label ?? new RequestLabel(
      `${request.method} ${url ?? '(no route)'}`,
      request.id,
      scope.config.serverTiming ? timings.begin() : null,
      traceContext === null ? null : traceparentOf(traceContext, request),
      traceContext !== null && traceContext.of !== null
    )
    const notBefore = tokens !== null && scope.config.transaction.replicable ? tokens.read(request) : null
    const session = engine.open(scope.config, settings, (error) => scope.forced(error), label, notBefore)
    if (tokens !== null) session.shareWriter(tokens.writerOf(request))
    return session
  }

  /** Runs the handler of a route with `retry` or `idempotency`. */
  function begin (request: Marked, reply: FastifyReply, handle: (reply: FastifyReply) => unknown): unknown {
    const scope = scopeOf(request)
    const { config, url } = request.routeOptions as unknown as { config: Record<PropertyKey, unknown>, url?: string }
    const sessionConfig = config[configMark] as SessionConfig
    const { idempotency } = sessionConfig
    const key = idempotency === null ? null : keyOf(request, idempotency)
    const idempotent = key === null ? null : new IdempotentRequest(request, idempotency!, key)
    const retries = engine.retries(sessionConfig, request.log)
    if (retries === null && idempotent === null) return handle(reply)
    const attempts: HandlerAttempts = new HandlerAttempts({
      handle,
      session: () => (scopeOf(request) ?? open(request, attempts)).session,
      newSession: () => openSession(request, scopeOf(request)!, url),
      usesOtherEngine: () => scopesOf(request).some((each) => each !== scopeOf(request)),
      outlivesClient: sessionConfig.onAbort === 'commit'
    }, retries, idempotent, reply)
    if (scope === null) request[mark] = attempts
    else attempts.use(scope)
    return attempts.start()
  }

  function hijacked (scope: RequestScope, request: FastifyRequest, reply: FastifyReply): void {
    if (!isUpgrade(request)) return releaseWhileHijacked(scope.session, reply)
    scope.upgrade().catch((error) => request.log.error({ err: error }, 'the work of a request that was upgraded, to ' +
      'a WebSocket for example, is not committed'))
  }

  /** An invalid declaration stops the boot, so no client reads its error. */
  function declaredConfig (own: unknown, path: string): SessionConfig {
    try {
      return routeConfig(defaults, own, path)
    } catch (error) {
      throw exposeDetails(error)
    }
  }

  /**
   * The configuration of a route that was declared before the plugin was loaded: its options are checked by its first
   * request.
   */
  function unseen (config: Record<string, unknown> | undefined, request: FastifyRequest): SessionConfig {
    // A polluted Object.prototype adds no options to a route.
    if (config === undefined || !Object.hasOwn(config, decorator) || config[decorator] === undefined) return otherwise
    let known = late.get(config)
    if (known === undefined) {
      const path = `${request.method} ${request.routeOptions.url}: config.${decorator}.`
      known = routeConfig(defaults, config[decorator], path)
      late.set(config, known)
    }
    return known
  }
}

/** A payload that is being sent while its request has not used its session. */
class SentBody {
  readonly reply: FastifyReply
  readonly payload: object

  constructor (reply: FastifyReply, payload: object) {
    this.reply = reply
    this.payload = payload
  }
}

/** Says on the error of a request with `retry` why its handler does not run again, if it has no attempts. */
function explainUnrepeated ({ attempts, config, routed, session }: RequestScope, error: unknown): void {
  if (attempts !== null || config.retry === null) return
  if (conflictIn(error) === null && conflictIn(session.failure) === null) return
  explain(error, 1, routed
    ? 'it failed before the handler'
    : 'the plugin cannot run its handler again: a 404 handler, or that of a route declared before the plugin was ' +
      'registered')
}

/** The session of a request before its handler runs, on a route with `retry`. */
function early (scope: RequestScope): EarlySession {
  scope.early ??= new EarlySession(scope)
  return scope.early
}

/** The scopes of a request: one for each engine whose session it uses. */
function scopesOf (request: FastifyRequest): RequestScope[] {
  const properties = request as unknown as Record<symbol, unknown>
  return Object.getOwnPropertySymbols(request).map((symbol) => properties[symbol])
    .filter((value) => value instanceof RequestScope)
}
