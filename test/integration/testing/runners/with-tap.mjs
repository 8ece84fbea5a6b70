import t from 'tap'
import { openSandbox } from 'fastify-pg-scope/testing'
import { addThing, openApp } from './things-app.mjs'

const app = await openApp()
const sandbox = await openSandbox(app)
t.afterEach(() => sandbox.rollback())
t.teardown(() => app.close())

for (const name of ['first', 'second']) t.test(name, async (t) => { t.equal(await addThing(app, 'tap'), 1) })
