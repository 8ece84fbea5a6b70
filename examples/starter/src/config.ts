import fastifyEnv from '@fastify/env'
import fp from 'fastify-plugin'
import { type Static, Type } from 'typebox'

const schema = Type.Object({
  /** 0 takes a free one. */
  PORT: Type.Integer({ default: 3000, minimum: 0, maximum: 65535 }),
  HOST: Type.String({ default: '127.0.0.1' }),
  /** Without it, the app starts a PostgreSQL of its own, for development. */
  DATABASE_URL: Type.Optional(Type.String()),
  /** Where that server keeps its data. Without it, the data is deleted at the end. */
  DATA_FOLDER: Type.Optional(Type.String()),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], { default: 'info' }),
  NODE_ENV: Type.Optional(Type.String())
})

export type Config = Static<typeof schema>

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

export interface ConfigOptions {
  /** Instead of the environment of the process and the file .env: tests pass their own. */
  env?: Record<string, string | undefined> | undefined
}

/** Reads the environment into `app.config`. A wrong value stops the start. */
export default fp<ConfigOptions>(async (app, { env }) => {
  const given = Object.entries(env ?? process.env)
  // An empty variable counts as none, because compose files leave them so.
  const data = Object.fromEntries(given.filter(([, value]) => value !== undefined && value !== ''))
  await app.register(fastifyEnv, { schema, data, env: false, dotenv: env === undefined })
  app.log.level = app.config.LOG_LEVEL
}, { name: 'config' })
