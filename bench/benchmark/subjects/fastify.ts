import type { Declare } from '../subject.ts'

/** Bare: the route without a database is every app's own. */
const fastify: Declare = async () => {}

export default fastify
