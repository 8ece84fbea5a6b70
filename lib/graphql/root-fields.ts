import type { Engine } from '../../types/engine.ts'
import { currentSessionOf } from '../library-source.ts'

type Resolver = (this: unknown, ...args: unknown[]) => unknown

interface Field {
  resolve?: Resolver | undefined
}

interface ObjectType {
  getFields (): Record<string, Field>
}

/** A GraphQLSchema, as far as it is needed. */
export interface Schema {
  getQueryType (): ObjectType | null | undefined
  getMutationType (): ObjectType | null | undefined
}

/** The engines for which a resolver opens a transaction(fn). */
const isolated = new WeakMap<Resolver, Set<Engine>>()

/**
 * Runs each field of Query and Mutation in a transaction(fn) of the current session. Not the fields below: their
 * resolvers wait for each other in a transaction(fn), and a data loader could not collect what they ask for.
 */
export function isolateRootFields (schema: Schema, engine: Engine): void {
  for (const type of [schema.getQueryType(), schema.getMutationType()]) {
    for (const field of Object.values(type?.getFields() ?? {})) isolate(field, engine)
  }
}

function isolate (field: Field, engine: Engine): void {
  const { resolve } = field
  // A schema may serve several servers.
  const engines = resolve === undefined ? undefined : isolated.get(resolve)
  if (resolve === undefined || engines?.has(engine) === true) return
  field.resolve = function (...args) {
    const session = currentSessionOf(engine)
    if (session === null) return resolve.apply(this, args)
    return session.transaction(() => resolve.apply(this, args))
  }
  isolated.set(field.resolve, new Set([engine, ...engines ?? []]))
}
