import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A temporary folder, removed when the test ends. */
export async function temporaryFolder (t: { teardown (callback: () => unknown): unknown }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'pg-scope-test-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}
