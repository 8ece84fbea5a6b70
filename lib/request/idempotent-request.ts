import { createHash, hash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IdempotencyPolicy } from '../config/idempotency-policy.ts'
import { pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { isStream } from './reply-stream.ts'
import { isResponse } from './payload.ts'

/** The longest body of an answer that is kept. Bytes. */
const longestBody = 1048576

/**
 * Saves the key, or returns the row of an earlier request. In a new row, and in one that replaces an expired row, the
 * status is NULL until the answer is saved.
 */
const insert = (from: string): string => `INSERT INTO pg_scope_idempotency AS k (sender, key, fingerprint, expires)
SELECT $1::text, $2::text, $3::text, now() + $4::float8 * interval '1 millisecond' ${from}
ON CONFLICT (sender, key) DO UPDATE SET
fingerprint = CASE WHEN k.expires > now() THEN k.fingerprint ELSE excluded.fingerprint END,
status = CASE WHEN k.expires > now() THEN k.status END,
headers = CASE WHEN k.expires > now() THEN k.headers END,
body = CASE WHEN k.expires > now() THEN k.body END,
expires = CASE WHEN k.expires > now() THEN k.expires ELSE excluded.expires END
RETURNING k.fingerprint, k.status, k.headers, encode(k.body, 'base64')`

/** Returns no row while another request has the key, which an advisory lock shows, and does not wait for it. */
const begin = insert('WHERE pg_try_advisory_xact_lock($5::int4, $6::int4)')

/**
 * Waits for the transaction of the other request, for up to $7 milliseconds: the lock_timeout of this statement alone.
 * Setting it would cost more than all else in the statement that most requests need.
 */
const beginAfter = insert(`
FROM (SELECT set_config('pg_scope.lock_timeout', current_setting('lock_timeout'), true) AS before OFFSET 0) AS saved
WHERE before IS NOT NULL AND CASE WHEN set_config('lock_timeout', $7::text, true) IS NOT NULL
THEN pg_advisory_xact_lock($5::int4, $6::int4) IS NOT NULL END`) +
  ", set_config('lock_timeout', current_setting('pg_scope.lock_timeout'), true)"

const save = 'UPDATE pg_scope_idempotency SET status = $3::int, headers = $4, body = $5 WHERE sender = $1 AND key = $2'

const asText = { getTypeParser: () => (value: unknown) => value }

/** Header fields that belong to one response or connection, or that a client may hold only once. */
const notKept = new Set([
  'connection', 'keep-alive', 'transfer-encoding', 'trailer', 'content-length', 'date', 'set-cookie', 'retry-after'
])

type Row = [fingerprint: string, status: string | null, headers: string, body: string | null]

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  /** Null: none. */
  readonly body: Buffer | null
}

/** A request with an idempotency key: its answer is saved with its work, or repeated. */
export class IdempotentRequest {
  readonly #request: FastifyRequest
  readonly #policy: IdempotencyPolicy
  readonly #key: string
  #sender = ''
  #before: Readonly<Record<string, unknown>> = {}
  /** The answer of the first request, or null if this is the first one. */
  #replay: Answer | null = null
  /** The answer of this request, as it was about to be sent. */
  #answer: Answer | null = null

  /** @throws FST_PG_SCOPE_IDEMPOTENCY_KEY (400) */
  constructor (request: FastifyRequest, policy: IdempotencyPolicy, key: string) {
    this.#request = request
    this.#policy = policy
    this.#key = key
  }

  /**
   * Begins the transaction with the key.
   *
   * @returns whether the handler must run. If not, the answer of the first request is to be sent
   */
  async begin (session: ManagedSession, reply: FastifyReply): Promise<boolean> {
    const { keyOf, fingerprint, ttl, wait } = this.#policy
    this.#before = reply.getHeaders()
    this.#answer = null
    this.#sender = keyOf === null ? '' : textOf(await keyOf(this.#request), 'keyOf')
    const print = fingerprint === null
      ? printOf(this.#request)
      : textOf(await fingerprint(this.#request), 'fingerprint')
    session.soleEnd = 'request'
    const values = [this.#sender, this.#key, print, ttl, hashOf(this.#sender), hashOf(this.#key)]
    const row = await rowOf(session, begin, values).catch((error: unknown) => { throw withTable(error) }) ??
      await rowOf(session, beginAfter, [...values, String(wait)])
        .catch((error: unknown) => { throw inProgress(error, wait) })
    const [first, status, headers, body] = row!
    if (first !== print) {
      throw pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_MISMATCH', 'The idempotency key was used for a request with ' +
        'another method, URL or body (`fingerprint`): a client must make a new key for each request.')
    }
    if (status === null) return true
    const bytes = body === null ? null : Buffer.from(body, 'base64')
    this.#replay = { status: Number(status), headers: JSON.parse(headers), body: bytes }
    await session.end('rollback')
    return false
  }

  /** What takes the place of the handler's result. */
  replay (reply: FastifyReply): unknown {
    reply.code(this.#replay!.status)
    return Buffer.alloc(0)
  }

  /**
   * A response has passed its serialization, and the hooks after this one have not seen it yet: remembers it, or
   * replaces it by the answer of the first request.
   *
   * @returns the payload to send
   * @throws FST_PG_SCOPE_IDEMPOTENCY_ANSWER for a payload that cannot be kept
   */
  pass (reply: FastifyReply, payload: unknown): unknown {
    if (this.#replay !== null) return this.#repeat(this.#replay, reply)
    // An error is rolled back, unless commitIf decides otherwise.
    if (reply.statusCode < 400 || !isStream(payload)) {
      this.#answer = { status: reply.statusCode, headers: this.#ownHeaders(reply), body: bodyOf(payload) }
    }
    return payload
  }

  #repeat ({ headers, body }: Answer, reply: FastifyReply): unknown {
    reply.removeHeader('content-type')
    for (const [name, value] of Object.entries(headers)) reply.header(name, value)
    reply.header('idempotency-replayed', 'true')
    return body
  }

  /** What the handler has set: the rest is set again for a repeated request. */
  #ownHeaders (reply: FastifyReply): Record<string, unknown> {
    const entries = Object.entries(reply.getHeaders())
    return Object.fromEntries(entries.filter(([name, value]) => !notKept.has(name) && this.#before[name] !== value))
  }

  /** COMMIT is about to be sent: the answer travels with it. */
  save (session: ManagedSession): void {
    if (this.#answer === null) return
    const { status, headers, body } = this.#answer
    session.addToEnd(save, [this.#sender, this.#key, String(status), JSON.stringify(headers), body])
  }
}

/**
 * The key of a request: a string of the draft's syntax, in quotation marks, or the same without them.
 *
 * @returns null if the request has none and needs none
 * @throws FST_PG_SCOPE_IDEMPOTENCY_KEY
 */
export function keyOf (request: FastifyRequest, { header, required }: IdempotencyPolicy): string | null {
  const value = request.headers[header]
  if (value === undefined) {
    if (!required) return null
    throw pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_KEY', `This route needs the header ${header} (\`required\`).`)
  }
  const match = typeof value === 'string' ? /^(?:"((?:[ !#-[\]-~]|\\["\\])+)"|([!#-~]+))$/.exec(value.trim()) : null
  const key = match?.[1]?.replaceAll(/\\(.)/g, '$1') ?? match?.[2]
  if (key !== undefined && key.length <= 255) return key
  throw pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_KEY', `The header ${header} must be one string of 1 to 255 ASCII ` +
    'characters, in quotation marks or without spaces.')
}

async function rowOf (session: ManagedSession, text: string, values: unknown[]): Promise<Row | undefined> {
  const { rows } = await session.query({ text, values, rowMode: 'array', types: asText })
  return rows[0] as unknown as Row | undefined
}

/** FNV-1a, 32 bits. Different keys rarely share a hash; if they do, they wait for each other. */
function hashOf (text: string): number {
  let code = 0x811c9dc5 | 0
  for (let i = 0; i < text.length; i++) code = Math.imul(code ^ text.charCodeAt(i), 0x01000193)
  return code
}

function textOf (value: unknown, option: string): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value
  throw pgScopeError('FST_PG_SCOPE_OPTIONS', `\`idempotency.${option}(request)\` must return a non-empty string, or ` +
    `a promise of one, got ${kindOf(value)}.`)
}

/** A hash of what the request asks for. */
function printOf ({ method, url, body }: FastifyRequest): string {
  const head = `${method} ${url}\n`
  if (Buffer.isBuffer(body)) return createHash('sha256').update(head).update(body).digest('base64')
  if (typeof (body as { pipe?: unknown } | null | undefined)?.pipe === 'function') {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'The body of an idempotent request is a stream, so two requests ' +
      'cannot be compared: give `idempotency.fingerprint(request)`.')
  }
  const rest = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body)
  return hash('sha256', head + rest, 'base64')
}

function bodyOf (payload: unknown): Buffer | null {
  if (payload === undefined || payload === null) return null
  if (isStream(payload) || isResponse(payload)) {
    throw pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_ANSWER', 'The answer of an idempotent request is saved with its ' +
      'work, and a stream cannot be saved: send a value, a string or a Buffer.')
  }
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(String(payload))
  if (body.length <= longestBody) return body
  throw pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_ANSWER', `The answer of an idempotent request has ${body.length} ` +
    `bytes, and at most ${longestBody} are saved: send a reference to the result instead.`)
}

function inProgress (error: unknown, wait: number): unknown {
  if ((error as { code?: unknown }).code !== '55P03') return error
  return pgScopeError('FST_PG_SCOPE_IDEMPOTENCY_CONFLICT', 'The first request with the same idempotency key is ' +
    `still in progress after ${wait} ms (\`wait\`).`, error)
}

function withTable (error: unknown): unknown {
  if ((error as { code?: unknown }).code !== '42P01') return error
  return pgScopeError('FST_PG_SCOPE_OPTIONS', 'The table pg_scope_idempotency does not exist: create it by the ' +
    'SQL that fastify-pg-scope/idempotency exports as `idempotencyTable`.', error)
}
