import { openSandbox } from 'fastify-pg-scope/testing'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { addThing, openApp } from './things-app.mjs'

let app
let sandbox
beforeAll(async () => {
  app = await openApp()
  sandbox = await openSandbox(app)
})
afterEach(() => sandbox.rollback())
afterAll(() => app.close())

for (const name of ['first', 'second']) test(name, async () => expect(await addThing(app, 'vitest')).toBe(1))
