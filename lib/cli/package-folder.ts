import { createRequire } from 'node:module'
import { dirname } from 'node:path'

/** Where this package is: installed, in a checkout, or in npx's cache. */
export function packageFolder (): string {
  return dirname(createRequire(import.meta.url).resolve('fastify-pg-scope/package.json'))
}
