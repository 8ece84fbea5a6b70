import Fastify from 'fastify'
import { PrismaPgScope, type SeparateSessions, separateSessions } from '../../lib/prisma/index.ts'
import { typeOf } from './expect.ts'

const { db } = Fastify()

// test/ecosystem compiles both against the types of Prisma.
typeOf(new PrismaPgScope(db)).is<PrismaPgScope>()
typeOf(new PrismaPgScope(db.session(), { schema: 'shop' })).is<PrismaPgScope>()
typeOf(new PrismaPgScope(() => db.current())).is<PrismaPgScope>()
typeOf(separateSessions(db)).is<SeparateSessions>()
// @ts-expect-error neither a session nor an engine
new PrismaPgScope({}).connect()
// @ts-expect-error no such option
new PrismaPgScope(db, { url: '' }).connect()
// @ts-expect-error a session has no calls of others
separateSessions(db.session())
