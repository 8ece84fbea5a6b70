import {
  either, isAbortSignal, isBoolean, isCount, isDuration, isFunction, isInstance, isListOfText, isObject, isOff,
  isOneOf, isPort, isPortList, isText, isWait, type Rule, type Rules
} from './option-rules.ts'
import { isolationLevels } from '../transaction-modes.ts'
import { parsePosition } from '../postgres/wal-position.ts'

const transactionRules: Rules = {
  mode: isOneOf('transaction', 'autocommit'),
  isolation: isOneOf(...isolationLevels),
  readOnly: isBoolean,
  replica: isBoolean,
  fallback: isBoolean,
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

/** The fields of the option `readYourWrites`. */
export const readYourWritesRules: Rules = {
  secret: (value) => typeof value === 'string' && value.length >= 16 ? null : 'a string of at least 16 characters',
  cookie: (value) => typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value) ? null : 'the name of a cookie'
}

/** The options of a scope. */
export const scopeRules: Rules = {
  ...transactionRules,
  retry,
  settings: isObject,
  role: isText,
  notBefore: (value) => value === null || (typeof value === 'string' && parsePosition(value) !== null)
    ? null
    : '`writtenAt` of a session',
  signal: isAbortSignal
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
  serverTiming: isBoolean,
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

export const isTargetSessionAttrs =
  isOneOf('any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby')
export const isLoadBalanceHosts = isOneOf('disable', 'random')

/** Fields of a connection, for every address. */
export const wireRules: Rules = {
  targetSessionAttrs: isTargetSessionAttrs,
  loadBalanceHosts: isLoadBalanceHosts,
  ssl: either(isBoolean, isObject),
  keepAlive: isBoolean,
  keepAliveInitialDelayMillis: isDuration,
  types: isInstance
}

/** Fields of the connection of the pool. */
export const connectionRules: Rules = {
  host: isText,
  port: (value) => isPortList(value) ? null : isPort(value),
  user: isText,
  password: either((value) => value === '' ? null : isText(value), isFunction),
  database: isText,
  ...wireRules
}

/** Options of Fastify's own, which @fastify/autoload passes to every plugin. They have no effect here. */
const ofRegister: Rule = () => null
const rulesOfRegister: Rules = { prefix: ofRegister, logLevel: ofRegister, logSerializers: ofRegister }

/** The options of `app.register()`. */
export const pluginRules: Rules = {
  connectionString: isText,
  directUrl: isText,
  ...connectionRules,
  decorator: (value) => typeof value === 'string' && /^[a-z_$][\w$]*$/i.test(value) ? null : 'a name such as \'db\'',
  applicationName: isText,
  replicas: either(isListOfText, isFunction),
  maxLag: isWait,
  readYourWrites: either(isBoolean, isObject),
  waitForReplica: isDuration,
  pool: isObject,
  ...routeRules,
  pooler: isOneOf('auto', 'none', 'session', 'transaction'),
  preparedStatements: either(isBoolean, isCount(0)),
  resolveCommits: isBoolean,
  traceContext: either(isBoolean, isObject),
  sessionState: isOneOf('reset', 'keep'),
  leakDetectionThreshold: isDuration,
  slowStatementThreshold: isDuration,
  slowTransactionThreshold: isDuration,
  closeTimeout: isDuration,
  onNotice: isFunction,
  startupCheck: isBoolean,
  exposeErrors: isBoolean,
  ...rulesOfRegister
}

/** The fields of the option `traceContext`. */
export const traceContextRules: Rules = {
  setting: (value) => typeof value === 'string' && /^[a-z_]\w*(?:\.[a-z_]\w*)+$/i.test(value)
    ? null
    : 'the name of a setting with a prefix, such as \'app.traceparent\'',
  applicationName: isBoolean,
  of: isFunction
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
