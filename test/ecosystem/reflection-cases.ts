// What the docs say of types and tables that a program reads from the development database.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify from 'fastify'
import t from 'tap'
import { pgScope } from '../../harness/plugin.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { drizzleOf } from '../../lib/drizzle/index.ts'
import { runProgram } from './ready.ts'

const postgres = await startTestPostgres(t)
await postgres.query(`
  CREATE TYPE mood AS ENUM ('happy', 'sad');
  CREATE TABLE owner (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, full_name text NOT NULL UNIQUE, born date);
  CREATE TABLE animal (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, owner_id int NOT NULL REFERENCES owner (id),
    mood mood NOT NULL DEFAULT 'happy', weight numeric(6, 2), tags text[] NOT NULL DEFAULT '{}'
  );
  CREATE VIEW heavy AS SELECT id, weight FROM animal WHERE weight > 100`)
const folder = await mkdtemp(join(import.meta.dirname, 'generated/reflection-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

t.test('kysely-codegen writes the types of the tables, enums and views of the embedded database', async (t) => {
  const file = join(folder, 'db.d.ts')
  await runProgram('kysely-codegen/dist/cli/bin.js', ['--dialect', 'postgres', '--out-file', file], {
    DATABASE_URL: postgres.connectionString
  })
  const types = await readFile(file, 'utf8')
  t.match(types, /export interface DB \{\s+animal: Animal;\s+heavy: Heavy;\s+owner: Owner;\s+\}/)
  t.match(types, /export type Mood = "happy" \| "sad";/)
  t.match(types, /export interface Animal \{\s+id: Generated<Int8>;\s+mood: Generated<Mood>;\s+owner_id: number;/)
  t.match(types, /full_name: string;/)
})

t.test('drizzle-kit pull writes the tables and relations of the embedded database, which run on a session', async (t) => {
  const out = join(folder, 'drizzle')
  await runProgram('drizzle-kit/bin.cjs', [
    'pull', '--dialect', 'postgresql', '--url', postgres.connectionString, '--out', out
  ])
  // Node wants the extension, which a bundler or tsx does without.
  const relations = await readFile(join(out, 'relations.ts'), 'utf8')
  await writeFile(join(out, 'relations.ts'), relations.replace('"./schema"', '"./schema.ts"'))
  const load = (file: string): Promise<any> => import(pathToFileURL(join(out, file)).href)
  const schema = { ...await load('schema.ts'), ...await load('relations.ts') }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const found = await app.db.scope(async (session) => {
    const drizzle: any = drizzleOf(session, { schema })
    const [{ id }] = await drizzle.insert(schema.owner).values({ fullName: 'Ada', born: '1815-12-10' }).returning()
    await drizzle.insert(schema.animal).values({ ownerId: id, tags: ['grey'] })
    return await drizzle.query.owner.findMany({ with: { animals: true } })
  })
  t.match(found, [{ fullName: 'Ada', born: '1815-12-10', animals: [{ mood: 'happy', weight: null, tags: ['grey'] }] }])
})
