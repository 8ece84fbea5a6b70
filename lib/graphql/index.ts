// GraphQL answers with status 200 although resolvers have failed, and it runs resolvers side by side on one session.
import fp from 'fastify-plugin'
import type { FastifyPluginAsync } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import type { Engine } from '../../types/engine.ts'
import { currentSessionOf } from '../library-source.ts'
import { isolateRootFields, type Schema } from './root-fields.ts'

export interface GraphqlOptions {
  /**
   * What an error in the GraphQL answer means for the work of its request. The answer itself is not changed.
   *
   * - `'rollback'` (default): all of the work is rolled back.
   * - `'isolate'`: each field of Query and Mutation runs in a `transaction(fn)`. One that fails is undone by itself,
   *   the others are committed. Fields of Query then run one after the other.
   */
  errors?: 'rollback' | 'isolate' | undefined
}

export interface MercuriusOptions extends GraphqlOptions {
  /** The engine whose sessions the resolvers use. Default: `app.db`. */
  engine?: Engine | undefined
}

/** What Apollo Server's plugins receive, as far as it is needed. */
interface ApolloRequest {
  readonly response: {
    readonly body: { readonly kind: string, readonly singleResult?: Result, readonly initialResult?: Result }
  }
}

interface Result {
  readonly errors?: readonly unknown[] | undefined
}

interface Mercurius {
  graphql?: { schema: Schema, addHook (name: 'onResolution', hook: (result: Result) => Promise<void>): void }
  db?: Engine
}

/**
 * A Fastify plugin, to be registered after Mercurius and fastify-pg-scope.
 *
 * @throws FST_PG_SCOPE_OPTIONS at startup
 */
export const mercuriusTransactions: FastifyPluginAsync<MercuriusOptions> = fp(
  async (app, { errors = 'rollback', engine = (app as unknown as Mercurius).db }: MercuriusOptions) => {
    checkErrors(errors)
    const { graphql } = app as unknown as Mercurius
    if (graphql === undefined) throw invalid('Register mercurius before mercuriusTransactions.')
    if (engine === undefined) throw invalid('Register fastify-pg-scope before mercuriusTransactions, or pass `engine`.')
    graphql.addHook('onResolution', async (result) => settle(engine, errors, result))
    // Resolvers may be defined until then.
    if (errors === 'isolate') app.addHook('onReady', async () => isolateRootFields(graphql.schema, engine))
  }, { name: 'fastify-pg-scope-mercurius', fastify: '5.x' })

/**
 * A plugin for Apollo Server.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function apolloTransactions (engine: Engine, { errors = 'rollback' }: GraphqlOptions = {}) {
  checkErrors(errors)
  if (typeof engine?.current !== 'function') {
    throw invalid(`apolloTransactions(engine) takes an engine such as \`app.db\`, got ${kindOf(engine)}.`)
  }
  return {
    async serverWillStart ({ schema }: { schema: unknown }): Promise<void> {
      if (errors === 'isolate') isolateRootFields(schema as Schema, engine)
    },
    async requestDidStart () {
      return {
        async willSendResponse ({ response: { body } }: ApolloRequest): Promise<void> {
          settle(engine, errors, body.singleResult ?? body.initialResult ?? {})
        }
      }
    }
  }
}

/** Keeps the answer with its errors: without setRollbackOnly(), a failed session would replace it by an error. */
function settle (engine: Engine, errors: NonNullable<GraphqlOptions['errors']>, result: Result): void {
  if (result.errors === undefined || result.errors.length === 0) return
  const session = currentSessionOf(engine)
  // In mode 'autocommit' each statement is committed already.
  if (session === null || session.mode === 'autocommit') return
  if (errors === 'rollback' || session.state === 'failed') session.setRollbackOnly('the GraphQL answer has errors')
}

function checkErrors (errors: unknown): void {
  if (errors === 'rollback' || errors === 'isolate') return
  throw invalid(`\`errors\` must be 'rollback' or 'isolate', got ${kindOf(errors)}.`)
}

function invalid (message: string): Error {
  return pgScopeError('FST_PG_SCOPE_OPTIONS', message)
}
