'use strict'
const { afterAll, afterEach, beforeAll, expect, test } = require('@jest/globals')

let addThingOverHttp
let app
let sandbox
beforeAll(async () => {
  const { openSandbox } = await import('fastify-pg-scope/testing')
  const things = await import('./things-app.mjs')
  addThingOverHttp = things.addThingOverHttp
  app = await things.openApp()
  sandbox = await openSandbox(app)
})
afterEach(() => sandbox.rollback())
afterAll(() => app.close())

for (const name of ['first', 'second']) test(name, async () => expect(await addThingOverHttp(app, 'jest-cjs')).toBe(1))
