import { chmod, chown, copyFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import type { TestPostgres } from './postgres.ts'
import { waitFor } from './wait-for.ts'

/** For 127.0.0.1 and localhost; known to everybody, so of no use but here. */
export const certificate = fileURLToPath(new URL('./tls/test-only.crt', import.meta.url))

/** Of the CA that has signed the certificates `signed` and `other-name`. */
export const privateCa = fileURLToPath(new URL('./tls/private-ca.crt', import.meta.url))

/** `signed` is for 127.0.0.1 and localhost, `other-name` for another host. */
export type ServerCertificate = 'test-only' | 'signed' | 'other-name'

/** PostgreSQL wants a key that is its own and that nobody else may read. */
export async function switchTlsOn (
  postgres: Pick<TestPostgres, 'query'>, name: ServerCertificate = 'test-only'
): Promise<void> {
  const { rows: [{ folder }] } = await postgres.query('SELECT current_setting(\'data_directory\') AS folder')
  const { uid, gid } = await stat(folder)
  for (const kind of ['crt', 'key']) {
    const to = join(folder, `server.${kind}`)
    await copyFile(fileURLToPath(new URL(`./tls/${name}.${kind}`, import.meta.url)), to)
    await chmod(to, 0o600)
    await chown(to, uid, gid)
  }
  await postgres.query('ALTER SYSTEM SET ssl = on')
  await postgres.query('SELECT pg_reload_conf()')
  await waitFor(async () => (await postgres.query('SHOW ssl')).rows[0].ssl === 'on', { message: 'TLS is on' })
}
