import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { openSandbox } from 'fastify-pg-scope/testing'
import { addThingOverHttp, openApp } from './things-app.mjs'

let app
let sandbox
beforeAll(async () => {
  app = await openApp()
  sandbox = await openSandbox(app)
})
afterEach(() => sandbox.rollback())
afterAll(() => app.close())

for (const name of ['first', 'second']) test(name, async () => expect(await addThingOverHttp(app, 'jest')).toBe(1))
