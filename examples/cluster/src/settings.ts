import { availableParallelism } from 'node:os'
import fastifyEnv from '@fastify/env'
import Fastify from 'fastify'

export interface Settings {
  DATABASE_URL: string
  DIRECT_URL?: string
  REPLICA_URLS?: string
  POSITION_SECRET?: string
  INSPECTOR_TOKEN?: string
  HOST: string
  PORT: number
  WORKERS: number
  POOL_MAX: number
  LOG_LEVEL: string
}

const schema = {
  type: 'object',
  required: ['DATABASE_URL'],
  properties: {
    DATABASE_URL: { type: 'string' },
    DIRECT_URL: { type: 'string' },
    REPLICA_URLS: { type: 'string' },
    POSITION_SECRET: { type: 'string' },
    INSPECTOR_TOKEN: { type: 'string' },
    HOST: { type: 'string', default: '127.0.0.1' },
    PORT: { type: 'integer', minimum: 0, maximum: 65535, default: 3000 },
    WORKERS: { type: 'integer', minimum: 1, default: availableParallelism() },
    POOL_MAX: { type: 'integer', minimum: 1, default: 10 },
    LOG_LEVEL: { type: 'string', default: 'info' }
  }
}

/** The environment, checked: the same in every process. */
export async function readSettings (): Promise<Settings> {
  const app = Fastify()
  const data = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== ''))
  await app.register(fastifyEnv, { schema, data, env: false })
  return app.getEnvs<Settings>()
}
