import {
  either, isBoolean, isCount, isDuration, isFunction, isInstance, isObject, isOff, isOneOf, isPort, isText, isWait,
  type Rule, type Rules
} from './option-rules.ts'

const transactionRules: Rules = {
  mode: isOneOf('transaction', 'autocommit'),
  isolation: isOneOf('read uncommitted', 'read committed', 'repeatable read', 'serializable'),
  readOnly: isBoolean,
  deferrable: isBoolean,
  statementTimeout: isDuration,
  lockTimeout: isDuration,
  idleInTransactionTimeout: isDuration,
  transactionTimeout: isDuration,
  answerTimeout: isDuration
}

const retry: Rule = either(isOff, isCount(1), isObject)

/** The fields of the option `retry`. */
export const retryRules: Rules = {
  attempts: isCount(1),
  minDelay: isDuration,
  maxDelay: isDuration
}

/** The options of a scope. */
export const scopeRules: Rules = {
  ...transactionRules,
  retry,
  settings: isObject,
  role: isText,
  signal: (value) => value instanceof AbortSignal ? null : 'an AbortSignal'
}

/** The options of a route, and the app's defaults for all routes. */
export const routeRules: Rules = {
  ...transactionRules,
  settings: either(isObject, isFunction),
  role: either(isText, isFunction),
  commitOn: isOneOf('send', 'response'),
  commitIf: isFunction,
  streamTimeout: isDuration,
  onAbort: isOneOf('rollback', 'commit'),
  retry
}

/** The options of a route alone. */
export const ownRouteRules: Rules = {
  ...routeRules,
  idempotency: either(isBoolean, isObject)
}

/** The fields of the option `idempotency`. */
export const idempotencyRules: Rules = {
  header: (value) => typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value) ? null : 'the name of a header',
  required: isBoolean,
  keyOf: isFunction,
  fingerprint: isFunction,
  ttl: isWait,
  wait: isWait
}

/** Fields that are passed to pg. */
export const connectionRules: Rules = {
  host: isText,
  port: isPort,
  user: isText,
  password: either((value) => value === '' ? null : isText(value), isFunction),
  database: isText,
  ssl: either(isBoolean, isObject),
  keepAlive: isBoolean,
  keepAliveInitialDelayMillis: isDuration,
  types: isInstance
}

/** Options of Fastify's own, which @fastify/autoload passes to every plugin. They have no effect here. */
const ofRegister: Rule = () => null
const rulesOfRegister: Rules = { prefix: ofRegister, logLevel: ofRegister, logSerializers: ofRegister }

/** The options of `app.register()`. */
export const pluginRules: Rules = {
  connectionString: isText,
  ...connectionRules,
  decorator: (value) => typeof value === 'string' && /^[a-z_$][\w$]*$/i.test(value) ? null : 'a name such as \'db\'',
  applicationName: isText,
  pool: isObject,
  ...routeRules,
  pooler: isOneOf('auto', 'none', 'session', 'transaction'),
  preparedStatements: either(isBoolean, isCount(0)),
  resolveCommits: isBoolean,
  sessionState: isOneOf('reset', 'keep'),
  leakDetectionThreshold: isDuration,
  closeTimeout: isDuration,
  onNotice: isFunction,
  startupCheck: isBoolean,
  exposeErrors: isBoolean,
  ...rulesOfRegister
}

/** The fields of the option `pool`. */
export const poolRules: Rules = {
  strategy: isOneOf('queue', 'null'),
  max: isCount(1),
  min: isCount(0),
  acquireTimeout: isWait,
  maxWaiting: isCount(0),
  idleTimeout: isDuration,
  maxLifetime: isDuration,
  maxUses: isCount(1),
  prePing: isBoolean
}
