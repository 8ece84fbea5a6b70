// initdb takes four fifths of a server's start. Test servers begin with a copy of a data folder that is made once
// and kept beside the compiled tests, in node_modules/.cache.
import { chmod, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { findPostgres } from './lane.ts'
import type { EmbeddedPostgres } from '../lib/embedded/index.ts'
import { launch } from '../lib/embedded/launch.ts'
import { checkEmbeddedOptions } from '../lib/embedded/options.ts'
import { runProgram } from '../lib/embedded/program.ts'
import type { MakeCluster } from '../lib/embedded/data-folder.ts'

const cache = fileURLToPath(new URL('../node_modules/.cache/', import.meta.url))
const templateOf = (major: number): string => join(cache, `fastify-pg-scope-cluster-${major}`)
/** Where the template keeps its login: startPostgres() writes it into a folder that is named. */
const loginFile = 'pg-scope.json'

/** Instead of initdb, for a server whose user and password do not matter. */
export const copyTemplate: MakeCluster = async (folder, _options, { account, binaries: { major } }) => {
  const template = templateOf(major)
  const login = await readLogin(template) ?? await makeTemplate(template, major)
  await copyFolder(template, folder)
  if (account !== undefined) await succeed('chown', ['-R', `${account.uid}:${account.gid}`, folder])
  return login
}

async function readLogin (template: string): Promise<{ user: string, password: string } | undefined> {
  return await readFile(join(template, loginFile), 'utf8').then(JSON.parse, () => undefined)
}

/** Several test processes may do so at once: the first that is done has made it. */
async function makeTemplate (template: string, major: number): Promise<{ user: string, password: string }> {
  const parent = await mkdtemp(join(tmpdir(), 'pg-scope-template-'))
  try {
    const dataFolder = join(parent, 'data')
    // As root the server runs as another user, who has to reach it.
    await chmod(parent, 0o711)
    // Older versions always take 4096.
    const settings = major < 16 ? {} : { scram_iterations: 1 }
    const postgres = await launch(checkEmbeddedOptions({ dataFolder, durable: false, settings }), findPostgres)
    try {
      await hashAgain(postgres)
    } finally {
      await postgres.stop()
    }
    await mkdir(cache, { recursive: true })
    const draft = `${template}.${process.pid}`
    await copyFolder(dataFolder, draft)
    await rename(draft, template).catch(() => rm(draft, { recursive: true, force: true }))
  } finally {
    await rm(parent, { recursive: true, force: true })
  }
  return (await readLogin(template))!
}

/** A thousand files: programs do it in a third of the time that Node takes. */
async function copyFolder (from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  // The server refuses a folder that others may read.
  await chmod(to, 0o700)
  await succeed('cp', ['-R', `${from}/.`, to])
}

async function succeed (program: string, args: string[]): Promise<void> {
  const { code, error, output } = await runProgram(program, args, undefined)
  if (code !== 0) throw new Error(`${program} failed: ${output}`, { cause: error })
}

/** The thousands of iterations by which a stolen hash is protected cost each login of each test some milliseconds. */
async function hashAgain ({ connectionString, user, password }: EmbeddedPostgres): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query(`ALTER ROLE ${client.escapeIdentifier(user)} PASSWORD ${client.escapeLiteral(password)}`)
  await client.end()
}
