import fastifyEnv from '@fastify/env'
import fp from 'fastify-plugin'
import { type Static, Type } from 'typebox'

const schema = Type.Object({
  /** 0 takes a free one. */
  PORT: Type.Integer({ default: 3000, minimum: 0, maximum: 65535 }),
  HOST: Type.String({ default: '127.0.0.1' }),
  /** Without it, a PostgreSQL of the app's own is started. */
  DATABASE_URL: Type.Optional(Type.String()),
  /** Where that one keeps its data. Without it, they are thrown away at the end. */
  DATA_FOLDER: Type.Optional(Type.String()),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], { default: 'info' })
})

export type Config = Static<typeof schema>

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

export interface ConfigOptions {
  /** In place of the process's environment: tests pass their own. */
  env?: Record<string, string | undefined>
}

/** Reads the environment into `app.config`, and stops the boot where it is not as expected. */
export default fp<ConfigOptions>(async (app, { env = process.env }) => {
  // An empty variable counts as none, as compose files leave them.
  const data = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))
  await app.register(fastifyEnv, { schema, data, env: false })
  app.log.level = app.config.LOG_LEVEL
}, { name: 'config' })
