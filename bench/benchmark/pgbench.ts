import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Network } from './network.ts'
import { max } from './setting.ts'
import { accounts } from '../../harness/workload-statements.ts'

const run = promisify(execFile)

/**
 * What the wire and PostgreSQL allow: pgbench with the same statements on as many connections, without HTTP and
 * without Node.
 */
export interface Floor {
  workload: 'read' | 'write'
  /** One round trip for each statement, BEGIN and COMMIT included, or one for them all. */
  way: 'one by one' | 'in one pipeline'
  /** Milliseconds of a round trip. */
  delay: number
  perSecond: number
}

const statements = {
  read: ['SELECT id, owner, balance FROM accounts WHERE id = :id;'],
  write: ['UPDATE accounts SET balance = balance + :amount WHERE id = :id;', 'INSERT INTO entries (account, amount) VALUES (:id, :amount);']
}

const script = (workload: Floor['workload'], way: Floor['way']): string => [
  `\\set id random(1, ${accounts})`,
  '\\set amount random(1, 100)',
  way === 'in one pipeline' ? '\\startpipeline' : '',
  'BEGIN;',
  ...statements[workload],
  'COMMIT;',
  way === 'in one pipeline' ? '\\endpipeline' : ''
].filter(Boolean).join('\n')

/** As in 'pgbench (PostgreSQL) 15.18', or null where it is not installed. */
export async function findPgbench (): Promise<string | null> {
  return await run('pgbench', ['--version']).then(({ stdout }) => stdout.trim(), () => null)
}

export async function measureFloor ({ connectionString }: Network, delay: number, seconds: number): Promise<Floor[]> {
  const folder = await mkdtemp(join(tmpdir(), 'pg-scope-pgbench-'))
  const { hostname, port, username, password, pathname } = new URL(connectionString)
  const env = { ...process.env, PGPASSWORD: decodeURIComponent(password) }
  const address = ['-h', hostname, '-p', port, '-U', decodeURIComponent(username), pathname.slice(1)]
  try {
    const floors: Floor[] = []
    for (const workload of ['read', 'write'] as const) {
      for (const way of ['one by one', 'in one pipeline'] as const) {
        const file = join(folder, 'script.sql')
        await writeFile(file, script(workload, way))
        // It takes whole seconds.
        const time = String(Math.max(1, Math.round(seconds)))
        const { stdout } = await run('pgbench', ['-n', '-M', 'prepared', '-c', String(max), '-j', '1', '-T', time, '-f', file, ...address], { env })
        const perSecond = Number(/^tps = ([\d.]+)/m.exec(stdout)?.[1])
        if (!(perSecond > 0)) throw new Error(`pgbench said: ${stdout}`)
        floors.push({ workload, way, delay, perSecond })
      }
    }
    return floors
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
