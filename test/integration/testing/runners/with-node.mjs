import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { openSandbox } from 'fastify-pg-scope/testing'
import { addThing, openApp } from './things-app.mjs'

const app = await openApp()
let sandbox
before(async () => { sandbox = await openSandbox(app) })
afterEach(() => sandbox.rollback())
after(() => app.close())

for (const name of ['first', 'second']) test(name, async () => assert.equal(await addThing(app, 'node'), 1))
