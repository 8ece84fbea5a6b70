'use strict'
const assert = require('node:assert/strict')
const { after, afterEach, before, test } = require('node:test')
const { openSandbox } = require('fastify-pg-scope/testing')
const { addThing, openApp } = require('./things-app.mjs')

let app
let sandbox
before(async () => {
  app = await openApp()
  sandbox = await openSandbox(app)
})
afterEach(() => sandbox.rollback())
after(() => app.close())

for (const name of ['first', 'second']) test(name, async () => assert.equal(await addThing(app, 'node-cjs'), 1))
