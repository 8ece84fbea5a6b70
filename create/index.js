#!/usr/bin/env node
// `npm create fastify-pg-scope my-app` is `npx fastify-pg-scope init my-app`.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(import.meta.url)
const manifest = require.resolve('fastify-pg-scope/package.json')
const program = new URL(require(manifest).bin['fastify-pg-scope'], pathToFileURL(manifest))
process.argv.splice(2, 0, 'init')
await import(program.href)
