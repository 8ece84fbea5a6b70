import { execFile } from 'node:child_process'
import { chmod, chown, mkdtemp, open, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { chooseAccount } from '../../lib/embedded/account.ts'

const run = promisify(execFile)

/** A small disk that PostgreSQL can have a tablespace on. */
export interface Disk {
  readonly folder: string
  /** No further block can be written. */
  fill (): Promise<void>
  free (): Promise<void>
}

/** Megabytes. */
const size = 96

/** @returns null where this process may not mount anything: only root can, and not in every container */
export async function mountDisk (t: { teardown (callback: () => unknown): unknown }): Promise<Disk | null> {
  const mounted = await mkdtemp(join(tmpdir(), 'pg-scope-disk-'))
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${size}m`, 'pg-scope-disk', mounted])
  } catch {
    await rmdir(mounted)
    return null
  }
  t.teardown(async () => {
    await run('umount', ['-l', mounted])
    await rmdir(mounted)
  })
  const account = await chooseAccount(undefined)
  if (account !== undefined) await chown(mounted, account.uid, account.gid)
  await chmod(mounted, 0o700)
  const filler = join(mounted, 'filler')
  return {
    folder: mounted,
    async fill () {
      const file = await open(filler, 'w')
      try {
        for (let block = Buffer.alloc(1 << 20); block.length > 0;) {
          await file.write(block).catch((error) => {
            if (error.code !== 'ENOSPC') throw error
            block = block.subarray(0, block.length >> 1)
          })
        }
      } finally {
        await file.close()
      }
    },
    free: () => rm(filler, { force: true })
  }
}
